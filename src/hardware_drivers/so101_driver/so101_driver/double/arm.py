# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A whole arm as a double: six servos, calibrated, on a port."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..calibration import GRIPPER, MOTORS, RADIANS_PER_COUNT, Calibration, MotorCalibration
from .bus import BusDouble
from .plants import LOWER, UPPER, Plant
from .port import PortDouble
from .servo import ServoDouble

NAME = "double"    # of its port and its calibration, in the driver's options
OFFSETS = (-120, 85, 310, -47, 12, -260)    # of homing: every arm has its own
SHIFTS = (-3, 9, 4, -8, 0, 0)               # [counts] of the middle of the range from the middle of the turn


def default_link(name: str = "so101") -> str:
    """The double's port where no other is given: in the user's runtime folder, else in a private temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) if runtime else Path(tempfile.gettempdir()) / f"molmoact2-{os.getuid()}"
    return str(folder / f"molmoact2-{name}-{os.environ.get('ROS_DOMAIN_ID', '0')}.tty")


def double_calibration() -> Calibration:
    """The calibration of the double's arm: joints reach the limits of the SO-101's model, and a count more."""
    calibration = {}
    for index, name in enumerate(MOTORS):
        if name == GRIPPER:
            middle, half = 2047, (UPPER[index] - LOWER[index]) / 2
        else:
            middle, half = 2047 + SHIFTS[index], max(-LOWER[index], UPPER[index])
        reach = math.ceil(half / RADIANS_PER_COUNT) + (0 if name == GRIPPER else 1)
        calibration[name] = MotorCalibration(index + 1, 0, OFFSETS[index], middle - reach, middle + reach)
    return calibration


def servos(
    plant: Plant, calibration: Calibration, clock: Callable[[], float] = time.monotonic
) -> list[ServoDouble]:
    """Servos with a calibration in their memory, so that angle 0 of the plant is 0 by it; the gripper's lower limit is
    closed. clock: steady [s]."""
    made = []
    for index, name in enumerate(MOTORS):
        motor = calibration[name]
        present = motor.range_min - LOWER[index] / RADIANS_PER_COUNT if name == GRIPPER else motor.middle
        servo = ServoDouble(motor.id, index, plant, zero=present + motor.homing_offset, clock=clock)
        servo.calibrate(motor)
        made.append(servo)
    return made


def make_double(
    plant: Plant, link: str, threaded: bool = True, clock: Callable[[], float] = time.monotonic
) -> PortDouble:
    """clock: steady, of the servos' own times [s]. Errors: PortError."""
    return PortDouble(BusDouble(servos(plant, double_calibration(), clock)), link, threaded)
