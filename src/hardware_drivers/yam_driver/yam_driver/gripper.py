# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Finding what a gripper's motor reads closed and open. It moves the gripper, and so is never part of connecting.

i2rt finds these limits at each start, by pushing both ways for a time; here an operator asks for it, once, and what
counts is that readings which are new do not change any more.
"""

from __future__ import annotations

import time

from arm_controller.driver import DriverError

from .channel import Channel
from .checks import fault_text, survey
from .hardware import Hardware
from .motors import ON, MotorBus, Silent

PUSH = 0.5               # [N m], as i2rt pushes
LONGEST = 4.0            # [s] and
MOST = 4000              # exchanges each way, whichever is longer
STILL = 0.3              # [s] and
STILL_FOR = 60           # exchanges without a change, whichever is longer
CHANGE = 0.01            # [rad]
PERIOD = 1 / 200
SHORTEST_STROKE = 0.5    # [rad]


def find_limits(bus: MotorBus, hardware: Hardware, names: tuple[str, ...], channel: Channel) -> tuple[float, float]:
    """Closes and opens the gripper with 0.5 N m, the arm's motors being left off; what its motor read closed and open
    [rad]. Errors: DriverError."""
    motor, direction = hardware.motors[-1], hardware.directions[-1]
    survey(bus, hardware, names, channel)
    try:
        reading = bus.enable(motor)
        if reading.status != ON:
            raise DriverError(fault_text(motor, names[-1], reading))
        try:
            # As i2rt has it: closed is where a positive torque pushes to.
            closed = _push(bus, hardware, names, PUSH * direction)
            opened = _push(bus, hardware, names, -PUSH * direction)
        finally:
            bus.disable(motor)
    except Silent as error:
        raise DriverError(f"{error} stopped answering while it was pushed; check its cable") from error
    if abs(opened - closed) < SHORTEST_STROKE:
        raise DriverError(
            f"the gripper moved {abs(opened - closed):.2f} rad only; free its fingers, and check option gripper"
        )
    return closed * direction, opened * direction


def _push(bus: MotorBus, hardware: Hardware, names: tuple[str, ...], torque: float) -> float:
    """Where the motor comes to a stop under a torque [rad]. Errors: DriverError, Silent."""
    motor, began = hardware.motors[-1], time.monotonic()
    last, since, still = None, began, 0
    for count in range(10 * MOST):
        reading = bus.command(motor, 0.0, 0.0, 0.0, 0.0, torque)
        if reading.status != ON:
            raise DriverError(fault_text(motor, names[-1], reading))
        now = time.monotonic()
        if last is None or abs(reading.position - last) > CHANGE:
            last, since, still = reading.position, now, 0
        still += 1
        if still > STILL_FOR and now - since > STILL:
            return reading.position
        if count > MOST and now - began > LONGEST:
            break
        time.sleep(PERIOD)
    raise DriverError("the gripper did not come to a stop; check option gripper, and whether its motor turns freely")
