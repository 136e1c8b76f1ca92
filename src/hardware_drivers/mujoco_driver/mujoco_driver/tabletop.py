# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A scene that is stepped by whoever holds it: no bus, no clock, no ROS. For demonstrations, and for trying a policy
faster than real time.

Commands are servo angles [rad] in the scene's joint order, the gripper's angle too; `to_ros` and `to_servo` convert.
"""

from __future__ import annotations

import mujoco
import numpy as np

from .scene import Scene, place_cubes
from .variation import apply_variation

RATE = 30           # commands a second
SETTLE_STEPS = 150


class Tabletop:
    """One arm and its cubes. home: where the arm starts [rad], in the scene's joint order."""

    def __init__(self, scene: Scene, home: np.ndarray):
        self.scene, self.model, self.data = scene, scene.model, mujoco.MjData(scene.model)
        self._home = np.asarray(home, dtype=np.float64)
        self.positions = np.array([self.model.joint(j).qposadr[0] for j in scene.joints])
        self.dofs = np.array([self.model.joint(j).dofadr[0] for j in scene.joints])
        self.limits = self.model.actuator_ctrlrange.copy()
        self.command = self._home.copy()
        self._substeps = round(1 / RATE / self.model.opt.timestep)

    def reset(self, seed: int, offset: np.ndarray | None = None) -> None:
        """Places everything as the seed says. offset: of the arm's start from home [rad]."""
        apply_variation(self.scene, seed)
        mujoco.mj_resetData(self.model, self.data)
        self.command = np.clip(self._home + (0 if offset is None else offset), *self.limits.T)
        self.data.qpos[self.positions] = self.command
        self.data.ctrl[:] = self.command
        place_cubes(self.scene, self.data, seed)
        mujoco.mj_step(self.model, self.data, SETTLE_STEPS)

    def step(self, command: np.ndarray) -> None:
        """Goes on by 1 / RATE s, the command moving evenly from the last one to this one [rad]."""
        goal = np.clip(command, *self.limits.T)
        for index in range(self._substeps):
            self.data.ctrl[:] = self.command + (goal - self.command) * (index + 1) / self._substeps
            mujoco.mj_step(self.model, self.data)
        self.command = goal

    def joints(self) -> np.ndarray:
        """Servo angles as measured [rad]."""
        return self.data.qpos[self.positions].copy()

    def to_ros(self, servo: np.ndarray) -> np.ndarray:
        """Servo angles [rad] (..., D) -> arm joints [rad] and the gripper 0 closed .. 1 open: the last joint."""
        ros = np.array(servo, dtype=np.float64)
        low, high = self.limits[-1]
        ros[..., -1] = (ros[..., -1] - low) / (high - low)
        return ros

    def to_servo(self, ros: np.ndarray) -> np.ndarray:
        """The other way round."""
        servo = np.array(ros, dtype=np.float64)
        low, high = self.limits[-1]
        servo[..., -1] = low + servo[..., -1] * (high - low)
        return servo

    def site(self, name: str) -> np.ndarray:
        """Where a site is [m], in the robot's base."""
        return self.data.site(name).xpos.copy()

    def place(self, body: str) -> np.ndarray:
        """Where a free body is [m]."""
        return self.data.qpos[self.model.joint(body).qposadr[0] :][:3].copy()

    def yaw(self, cube: str) -> float:
        """How a cube is turned about the vertical [rad], a quarter turn being none: -pi/4 .. pi/4."""
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[self.model.joint(cube).qposadr[0] + 3 :][:4])
        flat = rotation.reshape(3, 3)[:2]
        axis = flat[:, np.argmax(np.linalg.norm(flat, axis=0))]
        return float((np.arctan2(axis[1], axis[0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)
