# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a follower's servos are set to, and the writing of their EEPROM. Only what differs is written: it wears out."""

from __future__ import annotations

from collections.abc import Mapping

from .bus import ServoBus
from .calibration import GRIPPER, Calibration
from .identify import ArmError, Servo
from .registers import (
    COUNTS_PER_TURN,
    D_GAIN,
    EEPROM,
    EEPROM_SIZE,
    HOMING_OFFSET,
    I_GAIN,
    LOCK,
    MAX_POSITION,
    MAX_TEMPERATURE,
    MAX_TORQUE,
    MIN_POSITION,
    OPERATING_MODE,
    OVERLOAD_TORQUE,
    P_GAIN,
    PHASE,
    PROTECTION_CURRENT,
    RESPONSE_LEVEL,
    RETURN_DELAY,
    Register,
)

MULTI_TURN = 0x10          # bit of Phase: positions count on over a turn
MOST_TEMPERATURE = 70      # [deg C], the factory's limit, at which a servo drops its torque by itself
POSITION_MODE = 0

# Gains as LeRobot sets them: the servos do not shake with these.
EVERY_JOINT = {
    RETURN_DELAY: 0, RESPONSE_LEVEL: 1, OPERATING_MODE: POSITION_MODE, P_GAIN: 16, I_GAIN: 0, D_GAIN: 32,
    MAX_TORQUE: 1000,
}
# Jaws crush: half the torque, 1.6 A, and a quarter of the torque counts as an overload.
GRIPPER_ONLY = {MAX_TORQUE: 500, PROTECTION_CURRENT: 250, OVERLOAD_TORQUE: 25}
# These change how a servo that is on holds, so they are not written to it.
MOVING = (OPERATING_MODE, P_GAIN, I_GAIN, D_GAIN, PHASE)


def wanted(name: str, servo: Servo) -> dict[Register, int]:
    """The registers of a motor that are not as they should be, and what they should be."""
    settings = EVERY_JOINT | (GRIPPER_ONLY if name == GRIPPER else {})
    settings[MAX_TEMPERATURE] = min(servo.value(MAX_TEMPERATURE), MOST_TEMPERATURE)
    settings[PHASE] = servo.value(PHASE) & ~MULTI_TURN
    return {register: value for register, value in settings.items() if servo.value(register) != value}


def apply(bus: ServoBus, servos: Mapping[str, Servo]) -> None:
    """Brings the servos to what they should be set to. Errors: ArmError, also where a servo that holds would hold
    otherwise; NoAnswer, PortError."""
    changes = {name: wanted(name, servo) for name, servo in servos.items()}
    for name, servo in servos.items():
        felt = [register.name for register in changes[name] if register in MOVING]
        if servo.torque and felt:
            raise ArmError(
                f"servo {servo.id} ({name}) holds with other settings ({', '.join(felt)}), and changing them moves the "
                "arm: support it and release it with `molmoact2 so101 release --limp`, then start again"
            )
    for name, servo in servos.items():
        write_eeprom(bus, name, servo.id, changes[name])


def torque_limit(name: str) -> int:
    """[0.1 %]"""
    return (GRIPPER_ONLY if name == GRIPPER else EVERY_JOINT)[MAX_TORQUE]


def write_eeprom(bus: ServoBus, name: str, servo: int, values: Mapping[Register, int]) -> None:
    """Unlocks, writes, locks, and reads back. Errors: ArmError where a register did not take its value."""
    if not values:
        return
    bus.write(servo, LOCK, 0)
    try:
        for register, value in values.items():
            bus.write(servo, register, value)
    finally:
        bus.write(servo, LOCK, 1)
    eeprom = bus.read(servo, EEPROM).data
    for register, value in values.items():
        if register.end <= EEPROM_SIZE and register.within(eeprom, 0) != value:
            raise ArmError(
                f"servo {servo} ({name}) did not take {register.name} {value} (it has {register.within(eeprom, 0)}); "
                "switch its power off and on, and try again"
            )


def write_calibration(bus: ServoBus, calibration: Calibration) -> None:
    """Puts a calibration into the servos. Errors: ArmError, NoAnswer, PortError."""
    for name, motor in calibration.items():
        values = {
            HOMING_OFFSET: motor.homing_offset, MIN_POSITION: motor.range_min, MAX_POSITION: motor.range_max,
        }
        write_eeprom(bus, name, motor.id, values)


def clear_calibration(bus: ServoBus, name: str, servo: int) -> None:
    """The whole turn, from the encoder's own zero: positions are then actual ones. Errors: as write_eeprom."""
    whole = {HOMING_OFFSET: 0, MIN_POSITION: 0, MAX_POSITION: COUNTS_PER_TURN - 1}
    write_eeprom(bus, name, servo, whole)
