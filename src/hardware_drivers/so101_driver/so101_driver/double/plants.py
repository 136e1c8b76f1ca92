# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What moves behind the servos of the double. Angles in rad, one per motor, in MOTORS' order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..calibration import MOTORS

LOWER = np.array([-1.91986, -1.74533, -1.69, -1.65806, -2.74385, -0.174533])    # of the SO-101 model
UPPER = np.array([1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.74533])
START = (0.0, -0.9, 0.75, 1.3, 0.0, 0.4)
SPEED = 5.0          # [rad/s]; a servo without load
FALL = 1.0           # [rad/s]; of a limp joint of PointPlant
MOST_STEP = 0.2      # [s] that is made up for between two looks
SAME_LOOK = 0.002    # [s]; servos that are asked together are looked at together
STALL_CURRENT = 2.4  # [A] at full torque


class Plant(Protocol):
    def angles(self) -> np.ndarray:
        """Where the joints are now, float64 (6,)."""

    def set_goal(self, index: int, goal: float | None) -> None:
        """A servo's goal; None: its torque is off."""

    def loads(self) -> np.ndarray:
        """The share of its torque that each servo gives now, -1 .. 1, float64 (6,)."""


class PointPlant:
    """Joints without dynamics: they go to their goals at a servo's speed; limp ones sink to their lower limits.

    clock: steady clock [s]. falls: whether limp joints sink at all. blocked: motors that cannot move, as against an
    obstacle; held: those that a hand holds.
    """

    def __init__(self, start: Sequence[float] = START, clock: Callable[[], float] = time.monotonic):
        self._clock, self._last = clock, clock()
        self._angles = np.array(start, dtype=np.float64)
        self._goals: list[float | None] = [None] * len(MOTORS)
        self.falls = False
        self.blocked: set[int] = set()
        self.held: set[int] = set()

    def angles(self) -> np.ndarray:
        now = self._clock()
        dt, self._last = now - self._last, now
        for index, goal in enumerate(self._goals):
            if index in self.blocked | self.held or (goal is None and not self.falls):
                continue
            speed, target = (FALL, LOWER[index]) if goal is None else (SPEED, goal)
            step = np.clip(target - self._angles[index], -speed * dt, speed * dt)
            self._angles[index] += step
        return self._angles.copy()

    def set_goal(self, index: int, goal: float | None) -> None:
        self.angles()
        self._goals[index] = goal

    def loads(self) -> np.ndarray:
        blocked = [0.9 if i in self.blocked and goal is not None else 0.0 for i, goal in enumerate(self._goals)]
        return np.array(blocked)

    def push(self, index: int, angle: float) -> None:
        """Moves a joint to where a hand wants it."""
        self.angles()
        self._angles[index] = angle


class LedPlant:
    """A leader in a hand that sways it slowly about its start; nothing of it is driven. clock: steady [s]."""

    SWAY = np.array([0.5, 0.1, 0.1, 0.1, 0.3, 0.3])    # [rad]
    TURN = 8.0                                         # [s], there and back

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._began = clock, clock()

    def angles(self) -> np.ndarray:
        turns = (self._clock() - self._began) / self.TURN
        return np.array(START) + self.SWAY * np.sin(2 * np.pi * turns)

    def set_goal(self, index: int, goal: float | None) -> None:
        """Nothing is driven."""

    def loads(self) -> np.ndarray:
        return np.zeros(len(MOTORS))


class MujocoPlant:
    """The simulated SO-101 in MuJoCo, with weight: its physics go on whenever it is looked at, up to the present.

    Limp joints carry nothing, so that the arm falls. hand: torques of a hand on the joints [Nm], (6,).
    """

    def __init__(self, start: Sequence[float] = START, clock: Callable[[], float] = time.monotonic):
        import mujoco

        from mujoco_driver.scene import build

        self._mujoco, scene = mujoco, build("so101_tabletop")
        self._model: Any = scene.model
        self._data = mujoco.MjData(self._model)
        self._positions = np.array([self._model.joint(name).qposadr[0] for name in MOTORS])
        self._dofs = np.array([self._model.joint(name).dofadr[0] for name in MOTORS])
        self._actuators = np.array([self._model.actuator(name).id for name in MOTORS])
        self._gains = self._model.actuator_gainprm.copy(), self._model.actuator_biasprm.copy()
        self._data.qpos[self._positions] = self._data.ctrl[self._actuators] = start
        mujoco.mj_forward(self._model, self._data)
        self.hand = np.zeros(len(MOTORS))
        self._clock, self._last = clock, clock()
        for index in range(len(MOTORS)):
            self.set_goal(index, None)

    def angles(self) -> np.ndarray:
        now, step = self._clock(), self._model.opt.timestep
        self._last = max(self._last, now - MOST_STEP)
        steps = int((now - self._last) / step)
        self._data.qfrc_applied[self._dofs] = self.hand
        if steps:
            self._mujoco.mj_step(self._model, self._data, steps)
            self._last += steps * step
        return self._data.qpos[self._positions].copy()

    def set_goal(self, index: int, goal: float | None) -> None:
        self.angles()
        actuator = self._actuators[index]
        gain, bias = (g[actuator] for g in self._gains)
        self._model.actuator_gainprm[actuator] = gain if goal is not None else 0.0
        self._model.actuator_biasprm[actuator] = bias if goal is not None else 0.0
        if goal is not None:
            self._data.ctrl[actuator] = goal

    def loads(self) -> np.ndarray:
        most = self._model.actuator_forcerange[self._actuators, 1]
        return self._data.actuator_force[self._actuators] / most


class WorldPlant:
    """The arm of the running simulated world, over its servo bus: cameras of the world see it. A servo whose torque is
    off yields there, and carries its own weight: in that world nothing falls.

    A world that does not answer in time is asked once more. Errors of each call: mujoco_driver.bus.BusError.
    """

    def __init__(self, address: str, timeout: float = 0.5):
        from mujoco_driver.bus import BusClient, BusError

        self._seen, self._seen_at = np.zeros(len(MOTORS)), -np.inf    # steady clock [s]
        self._open = lambda: BusClient(address, timeout)
        self._failure = BusError
        self._bus = self._open()
        servos = self._bus.identify()
        names = [servo.name for servo in servos]
        missing = [name for name in MOTORS if name not in names]
        if missing:
            raise BusError(f"the simulated world has no servo {', '.join(missing)}; choose a scene with an SO-101")
        self._indices = [names.index(name) for name in MOTORS]
        self._ranges = [(servos[i].lower, servos[i].upper) for i in self._indices]

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._failure:
            if not self._bus.closed:    # it refused
                raise
        self._bus = self._open()
        return call()

    def angles(self) -> np.ndarray:
        if time.monotonic() - self._seen_at > SAME_LOOK:
            self._seen = self._ask(lambda: self._bus.read())[1][self._indices]
            self._seen_at = time.monotonic()
        return self._seen.copy()

    def set_goal(self, index: int, goal: float | None) -> None:
        servo = self._indices[index]
        if goal is None:
            self._ask(lambda: self._bus.guide([servo]))
        else:
            inside = float(np.clip(goal, *self._ranges[index]))
            self._ask(lambda: self._bus.write([(servo, inside)]))

    def loads(self) -> np.ndarray:
        return np.zeros(len(MOTORS))
