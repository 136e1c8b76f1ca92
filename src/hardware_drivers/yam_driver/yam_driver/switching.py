# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Switching one motor on: its errors are cleared a few times at most, and it must read what it read when it was off."""

from __future__ import annotations

from arm_controller.driver import DriverError

from .checks import fault_text
from .hardware import Motor
from .motors import OFF, ON, Feedback, MotorBus
from .troubles import STOP

TRIES = 3
LEAP = 0.1    # [rad] that a position may change when its motor is switched on


def switch_on(bus: MotorBus, motor: Motor, name: str, before: Feedback) -> Feedback:
    """Its first reading. Errors: DriverError where it stays off, or reads another position on than off; then it is left
    off. Silent, OSError, can.CanError."""
    heat = max(before.mos, before.rotor)
    if heat >= STOP:
        raise DriverError(f"motor {motor.id} ({name}) is at {heat:.0f} degC; let it cool down below {STOP:.0f}")
    reading = before
    for _ in range(TRIES):
        if reading.status not in (OFF, ON):
            bus.clear(motor)
        reading = bus.enable(motor)
        if reading.status == ON:
            break
    if reading.status != ON:
        raise DriverError(f"motor {motor.id} ({name}) cannot be switched on: {fault_text(motor, name, reading)}")
    if abs(reading.position - before.position) > LEAP:
        bus.disable(motor)
        raise DriverError(
            f"motor {motor.id} ({name}) read {before.position:.2f} rad off and {reading.position:.2f} on; it is left "
            "off; set its zero anew"
        )
    return reading
