# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the motors turn. Positions [rad] of the motors' shafts, in motor order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

STROKE = 6.5                 # [rad] of a linear gripper's motor from open to closed
FINGER = 0.0475              # [m] that a finger goes meanwhile
TABLE = -0.01                # [m] its top, below the arm's foot: an arm that falls comes to lie on it
RANGES = ((-2.618, 3.1416), (0.0, 3.6652), (0.0, 3.1416), (-1.693, 1.5708), (-1.5708, 1.5708), (-2.0944, 2.0944))


CHAIN = ("base", "link1", "link2", "link3", "link4", "link5", "gripper")


class Plant(Protocol):
    step: float    # [s]

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities, each (J,)."""

    def advance(self, torques: Sequence[float]) -> None:
        """Goes on by one step under the motors' torques [N m]."""

    def place(self, positions: Sequence[float]) -> None:
        """At rest there."""


class SimplePlant:
    """Each joint by itself: inertia and damping, between stops, without weight. Fast, for tests of the wire."""

    step = 0.002

    def __init__(self, joints: int = 7):
        self._inertia = np.append(np.full(joints - 1, 0.15), 0.02)
        self._damping = np.append(np.full(joints - 1, 1.0), 0.2)
        low = np.array([low for low, _ in RANGES] + [0.0])
        high = np.array([high for _, high in RANGES] + [STROKE])
        self._low, self._high = low[-joints:] - 0.02, high[-joints:] + 0.02
        self._position, self._velocity = np.zeros(joints), np.zeros(joints)

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        return self._position, self._velocity

    def place(self, positions: Sequence[float]) -> None:
        self._position, self._velocity = np.array(positions, dtype=float), np.zeros(len(positions))

    def advance(self, torques: Sequence[float]) -> None:
        pushed = self._velocity + self.step * np.asarray(torques) / self._inertia
        velocity = pushed / (1 + self.step * self._damping / self._inertia)
        position = self._position + self.step * velocity
        inside = np.clip(position, self._low, self._high)
        self._position, self._velocity = inside, np.where(inside == position, velocity, 0.0)


class MujocoPlant:
    """The arm's own model in MuJoCo: weight, friction, stops. The gripper's motor moves its fingers."""

    step = 0.002

    def __init__(self, arm_type: str = "yam", gripper: str = "linear_4310", gravity: bool = True):
        import mujoco
        from i2rt.robots.utils import ArmType, GripperType, combine_arm_and_gripper_xml

        from ..hardware import remove

        file = combine_arm_and_gripper_xml(ArmType(arm_type), GripperType(gripper))
        try:
            spec = mujoco.MjSpec.from_file(file)
            # Neighbours touch at their joint by design; all others may, as link 5 lies on link 2 in the rest pose.
            for one, next_ in zip(CHAIN, CHAIN[1:], strict=False):
                spec.add_exclude(bodyname1=one, bodyname2=next_)
            plane = mujoco.mjtGeom.mjGEOM_PLANE
            spec.worldbody.add_geom(name="table", type=plane, size=[2, 2, 0.1], pos=[0, 0, TABLE])
            model = spec.compile()
        finally:
            remove(file)
        model.opt.timestep = self.step
        model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        model.opt.gravity[2] = -9.81 if gravity else 0.0
        # Of the gearboxes; the model has none.
        model.dof_frictionloss[:6] = [1.0, 1.5, 1.5, 0.4, 0.2, 0.2]
        # As it comes, friction in MuJoCo yields: the wrist of a limp arm crept by 27 mrad in 0.7 s, and so by 0.5.
        model.dof_solimp[:6, :2] = 0.999
        model.dof_armature[:6], model.dof_damping[:6] = 0.02, 0.3
        # What the gripper's motor has of it, as its two fingers feel it.
        per_finger = (STROKE / FINGER) ** 2 / 2
        model.dof_armature[6:], model.dof_damping[6:] = 0.02 * per_finger, 0.2 * per_finger
        model.dof_frictionloss[6:] = 0.05 * STROKE / FINGER / 2
        # The motor is the force limit here, not the model.
        model.jnt_actfrclimited[:] = 0
        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        self._finger = model.joint("joint7").id
        self._ratio = -STROKE / FINGER    # [rad/m]: 0 is open, STROKE closed; a finger's 0 is closed

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        q, v = self._data.qpos, self._data.qvel
        position = np.append(q[:6], STROKE + self._ratio * q[self._finger])
        return position, np.append(v[:6], self._ratio * v[self._finger])

    def place(self, positions: Sequence[float]) -> None:
        self._data.qpos[:6] = positions[:6]
        self._data.qpos[6:8] = (positions[6] - STROKE) / self._ratio
        self._data.qvel[:] = 0.0
        self._mujoco.mj_forward(self._model, self._data)

    def advance(self, torques: Sequence[float]) -> None:
        self._data.qfrc_applied[:6] = torques[:6]
        self._data.qfrc_applied[6:8] = torques[6] * self._ratio / 2    # two fingers
        self._mujoco.mj_step(self._model, self._data)
