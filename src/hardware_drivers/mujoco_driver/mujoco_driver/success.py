# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which tests of success hold in a state of the simulated world."""

from __future__ import annotations

import mujoco
import numpy as np

from .scene import TRAY_CENTRE, TRAY_HALF, Scene

TOUCH, PICK, TRAY = "touch", "pick", "tray"
TASKS = (TOUCH, PICK, TRAY)
TESTS = {TOUCH: "the {} cube is touched", PICK: "the {} cube is lifted", TRAY: "the {} cube is in the tray"}
LIFTED = 0.05           # [m] of a cube's centre above where it lies on the table
BETWEEN_JAWS = 0.03     # [m] from the cube's centre to the middle of the grasp
SIDEWAYS, ABOVE = 0.02, 0.03    # [m] of the fingertip from the middle of the cube's upper face
IN_TRAY = 0.04          # [m] of a cube's centre above the table, at most
OPEN = 0.3              # of the gripper's range
HELD_NS = 333_000_000   # [ns] for which a test must hold


class Held:
    """Tells what holds for a while from what holds for a moment."""

    def __init__(self) -> None:
        self._since: dict[str, int] = {}

    def update(self, stamp_ns: int, tests: dict[str, bool]) -> dict[str, bool]:
        """The tests as they are at that time, and of them those that have held for HELD_NS."""
        if any(stamp_ns < since for since in self._since.values()):
            self._since.clear()    # the clock was set back
        self._since = {name: self._since.get(name, stamp_ns) for name, holds in tests.items() if holds}
        return {name: name in self._since and stamp_ns - self._since[name] >= HELD_NS for name in tests}


def success_tests(scene: Scene, qpos: np.ndarray) -> dict[str, bool]:
    """Each test in words, and whether it holds. qpos: float64, generalised positions of the scene's whole model."""
    data = mujoco.MjData(scene.model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(scene.model, data)
    return {TESTS[task].format(cube): holds(scene, data, task, cube) for task in TASKS for cube in scene.cubes}


def holds(scene: Scene, data: mujoco.MjData, task: str, cube: str) -> bool:
    """Whether a task is done as things are. data: with its kinematics computed."""
    half, place = scene.half(cube), data.body(cube).xpos
    if task == TOUCH:
        tip = data.site("gripperframe").xpos - place
        return bool(np.linalg.norm(tip[:2]) < SIDEWAYS and 0 < tip[2] - half < ABOVE and place[2] < half + 0.005)
    if task == PICK:
        return bool(place[2] >= half + LIFTED and np.linalg.norm(data.site("grasp").xpos - place) < BETWEEN_JAWS)
    inside = np.abs(place[:2] - TRAY_CENTRE).max() < TRAY_HALF
    return bool(inside and place[2] < IN_TRAY and _opening(scene, data) > OPEN)


def _opening(scene: Scene, data: mujoco.MjData) -> float:
    joint = scene.model.joint(scene.joints[-1])
    low, high = joint.range
    return float((data.qpos[joint.qposadr[0]] - low) / (high - low))
