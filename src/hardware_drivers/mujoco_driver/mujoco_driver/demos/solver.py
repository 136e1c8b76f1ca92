# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics of the SO-101 by damped least squares: a point of the hand to a place, fingers down."""

from __future__ import annotations

import mujoco
import numpy as np

from ..scene import PAN_AXIS_X
from ..tabletop import Tabletop

DAMPING, ROUNDS, MOST_STEP = 2e-5, 120, 0.2
ROLL_ROUNDS = (25, 50)      # when the hand is roughly in place its roll is set, and once more
REMEMBERED = 5000
DOWN = 0.08                 # weight of pointing down against place


class Solver:
    """Of one scene; it looks at the model only, not at where things are."""

    def __init__(self, table: Tabletop):
        self._table, self._model = table, table.model
        self._data = mujoco.MjData(table.model)
        self._known: dict[tuple, np.ndarray] = {}
        self._site = {name: table.model.site(name).id for name in ("grasp", "gripperframe")}

    def forward(self, angles: np.ndarray, site: str) -> np.ndarray:
        """Where a site is [m] when the servos are at these angles [rad] (D,)."""
        self._place(angles)
        return self._data.site_xpos[self._site[site]].copy()

    def solve(
        self, place: np.ndarray | list[float], site: str, yaw: float | None = None, down: float = DOWN
    ) -> np.ndarray:
        """Servo commands [rad] (D,), gripper 0, that bring a site to a place: the sag of the servos under the weight of
        the arm is made good. yaw: of a cube that the jaws are to fit [rad]."""
        # What is solved for is what it is remembered by: an answer must not depend on what was asked before.
        rounded = np.round(np.asarray(place, dtype=np.float64), 4)
        yaw = None if yaw is None else round(yaw, 3)
        key = (site, down, *rounded, yaw)
        if key not in self._known:
            if len(self._known) > REMEMBERED:
                self._known.clear()
            self._known[key] = self._solve(rounded, self._site[site], yaw, down)
        return self._known[key]

    def _solve(self, place: np.ndarray, site: int, yaw: float | None, down: float) -> np.ndarray:
        limits = self._table.limits
        angles = np.array([-np.arctan2(place[1], place[0] - PAN_AXIS_X), 0.0, 0.3, 1.2, 0.0, 0.0])
        moves, turns = np.zeros((2, 3, self._model.nv))
        dofs = self._table.dofs[:4]
        for index in range(ROUNDS):
            self._place(angles)
            mujoco.mj_jacSite(self._model, self._data, moves, turns, site)
            hand = self._data.body("gripper").xmat.reshape(3, 3)
            if yaw is not None and index in ROLL_ROUNDS:
                angles[4] -= _quarter(yaw - np.arctan2(hand[1, 0], hand[0, 0]))
                angles[4] = _quarter(angles[4])
                continue
            away = place - self._data.site_xpos[site]
            tilt = np.cross(-hand[:, 2], [0, 0, -1])
            upright = down < 0.05 or np.linalg.norm(tilt) < 2e-3
            if index > max(ROLL_ROUNDS) and upright and np.linalg.norm(away) < 2e-4:
                break
            jacobian = np.r_[moves, down * turns[:2]][:, dofs]
            wanted = np.r_[away, down * tilt[:2]]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(5), wanted)
            angles[:4] = np.clip(angles[:4] + np.clip(step, -MOST_STEP, MOST_STEP), *limits[:4].T)
        angles[:5] += self._sag(angles)
        return angles

    def _sag(self, angles: np.ndarray) -> np.ndarray:
        """What a proportional servo has to be told more, to be where it was told [rad]."""
        self._data.qvel[:] = 0
        self._place(angles)
        mujoco.mj_comVel(self._model, self._data)
        force = np.zeros(self._model.nv)
        mujoco.mj_rne(self._model, self._data, 0, force)
        return force[self._table.dofs[:5]] / self._model.actuator_gainprm[:5, 0]

    def _place(self, angles: np.ndarray) -> None:
        self._data.qpos[self._table.positions] = angles
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)


def _quarter(angle: float) -> float:
    """Folded to -pi/4 .. pi/4: the jaws fit a cube four ways."""
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
