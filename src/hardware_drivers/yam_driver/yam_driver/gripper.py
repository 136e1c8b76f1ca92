# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Finding what a gripper's motor reads closed and open. It moves the gripper, and so is never part of connecting.

i2rt finds these limits at each start, by pushing both ways; here an operator asks for it, once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from i2rt.robots.utils import detect_gripper_limits

from arm_controller.driver import DriverError

from .channel import Channel
from .checks import survey
from .hardware import Hardware, Motor
from .motors import ON, Feedback, MotorBus, Silent
from .vendor import Chain

PUSH = 0.5       # [N m], as i2rt pushes
LONGEST = 4.0    # [s] each way
PERIOD = 1 / 200
SHORTEST_STROKE = 0.5    # [rad]


@dataclass(frozen=True)
class _Part:
    """Of an arm, what a chain needs to know."""

    motors: tuple[Motor, ...]
    directions: np.ndarray


class _GripperChain(Chain):
    """Only the gripper's motor is on, and is sent commands by a thread; the arm's are left off."""

    def __init__(self, bus: MotorBus, hardware: Hardware, readings: Sequence[Feedback]):
        super().__init__(_Part(hardware.motors[-1:], hardware.directions[-1:]), np.zeros(1))    # type: ignore[arg-type]
        self._bus, self._motor, self.readings = bus, hardware.motors[-1], [readings[-1]]
        self._ending = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _GripperChain:
        if self._bus.enable(self._motor).status != ON:
            raise DriverError(f"the gripper's motor {self._motor.id} cannot be switched on; see `molmoact2 yam state`")
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ending.set()
        self._thread.join()
        self._bus.disable(self._motor)

    def _run(self) -> None:
        while not self._ending.wait(PERIOD):
            try:
                sent = self.sent(0)
                self.readings = [self._bus.command(self._motor, sent.pos, sent.vel, sent.kp, sent.kd, sent.torque)]
            except Exception as error:
                self.error = error
                return


def find_limits(bus: MotorBus, hardware: Hardware, names: tuple[str, ...], channel: Channel) -> tuple[float, float]:
    """Closes and opens the gripper with 0.5 N m; what its motor read closed and open [rad]. Errors: DriverError."""
    surveyed = survey(bus, hardware, names, channel)
    try:
        with _GripperChain(bus, hardware, surveyed.readings) as chain:
            closed, opened = detect_gripper_limits(chain, 0, test_torque=PUSH, max_duration=LONGEST)
    except Silent as error:
        raise DriverError(f"{error} stopped answering while it was pushed; check its cable") from error
    if chain.error is not None:
        raise DriverError(f"the gripper's motor failed while it was pushed: {chain.error}") from chain.error
    if abs(opened - closed) < SHORTEST_STROKE:
        raise DriverError(
            f"the gripper moved {abs(opened - closed):.2f} rad only; free its fingers, and check option gripper"
        )
    return float(closed), float(opened)
