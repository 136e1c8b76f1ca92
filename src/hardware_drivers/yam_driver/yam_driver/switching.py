# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Switching one motor on: its errors are cleared a few times at most, and it must read what it read when it was off.
And all of them off."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import can

from arm_controller.driver import DriverError

from .checks import fault_text
from .hardware import Hardware, Motor
from .motors import OFF, ON, Feedback, MotorBus, Silent
from .troubles import STOP

TRIES = 3
LEAP = 0.1    # [rad] that a position may change when its motor is switched on


def switch_all_on(
    bus: MotorBus, hardware: Hardware, names: Sequence[str], readings: list[Feedback], driven: bool
) -> None:
    """Those that are off, or in an error that has passed; readings, in motor order, become their newest.

    driven: the others are on and commanded, so each question is put once, and none is switched off where one fails.
    Errors: as of switch_on.
    """
    switched: list[int] = []
    before, bus.tries = bus.tries, 1 if driven else bus.tries
    try:
        for index, reading in enumerate(readings):
            if not driven or reading.status != ON:
                switched.append(index)
                readings[index] = switch_on(bus, hardware.motors[index], names[index], reading)
    except BaseException:
        for index in switched if not driven else ():
            with contextlib.suppress(Silent, OSError, can.CanError):    # told is what came first
                readings[index] = bus.disable(hardware.motors[index])
        raise
    finally:
        bus.tries = before


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


def switch_all_off(bus: MotorBus, hardware: Hardware, readings: list[Feedback] | None = None) -> list[int]:
    """Each of them, whether the others answer or not; readings, in motor order, become the newest. Returns the ids of
    those that did not say that they are off. Errors: OSError, can.CanError."""
    stuck = []
    for index, motor in enumerate(hardware.motors):
        try:
            reading = bus.disable(motor)
        except Silent:
            stuck.append(motor.id)
            continue
        if readings is not None:
            readings[index] = reading
        if reading.status == ON:
            stuck.append(motor.id)
    return stuck
