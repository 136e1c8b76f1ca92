# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The registers of a Feetech STS3215 servo that this package uses, and their numbers. Words are little-endian.

Source: Feetech's memory table of the STS3215, as its SDK and LeRobot use it.
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL = 777                    # what an STS3215 says of itself
COUNTS_PER_TURN = 4096
MOST_COUNT = 4095
BAUD_RATES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)    # by the register's value
EEPROM_SIZE = 40               # registers below it outlive a loss of power; a lock guards them

# Bits of a status packet's error byte, and what they mean. The packet is valid all the same.
VOLTAGE, ANGLE, OVERHEAT, OVERCURRENT, OVERLOAD = 1, 2, 4, 8, 32
ERRORS = {
    VOLTAGE: "supply voltage out of range",
    ANGLE: "angle sensor fault",
    OVERHEAT: "overheated",
    OVERCURRENT: "overcurrent",
    OVERLOAD: "overloaded",
}


@dataclass(frozen=True)
class Register:
    """A register. size: bytes; sign_bit: of a sign-magnitude number, None where it has no sign."""

    name: str
    address: int
    size: int = 1
    sign_bit: int | None = None

    @property
    def end(self) -> int:
        return self.address + self.size

    def encode(self, value: int) -> bytes:
        """Errors: ValueError where the number does not fit."""
        bits = 8 * self.size if self.sign_bit is None else self.sign_bit
        if not (0 if self.sign_bit is None else 1 - (1 << bits)) <= value < 1 << bits:
            raise ValueError(f"{value} does not fit register {self.name}")
        if value < 0:
            value = -value | 1 << bits
        return value.to_bytes(self.size, "little")

    def decode(self, data: bytes) -> int:
        value = int.from_bytes(data[: self.size], "little")
        if self.sign_bit is not None:
            magnitude = value & ((1 << self.sign_bit) - 1)
            return -magnitude if value >> self.sign_bit & 1 else magnitude
        return value

    def within(self, block: bytes, begin: int) -> int:
        """Its number in a block of registers that begins at `begin`."""
        at = self.address - begin
        return self.decode(block[at : at + self.size])


FIRMWARE_MAJOR, FIRMWARE_MINOR = Register("Firmware_Major", 0), Register("Firmware_Minor", 1)
MODEL_NUMBER = Register("Model_Number", 3, 2)
ID, BAUD_RATE = Register("ID", 5), Register("Baud_Rate", 6)
RETURN_DELAY = Register("Return_Delay", 7)                    # [2 us]
RESPONSE_LEVEL = Register("Response_Level", 8)                # 1: every instruction is answered
MIN_POSITION, MAX_POSITION = Register("Min_Position_Limit", 9, 2), Register("Max_Position_Limit", 11, 2)    # [counts]
MAX_TEMPERATURE = Register("Max_Temperature_Limit", 13)       # [deg C]
MAX_VOLTAGE, MIN_VOLTAGE = Register("Max_Voltage_Limit", 14), Register("Min_Voltage_Limit", 15)    # [0.1 V]
MAX_TORQUE = Register("Max_Torque_Limit", 16, 2)              # [0.1 %]
PHASE = Register("Phase", 18)
P_GAIN, D_GAIN, I_GAIN = Register("P_Coefficient", 21), Register("D_Coefficient", 22), Register("I_Coefficient", 23)
PROTECTION_CURRENT = Register("Protection_Current", 28, 2)    # [6.5 mA]
HOMING_OFFSET = Register("Homing_Offset", 31, 2, 11)          # [counts]; present = actual - offset
OPERATING_MODE = Register("Operating_Mode", 33)               # 0: position
PROTECTIVE_TORQUE = Register("Protective_Torque", 34)         # [%] that is left after an overload
PROTECTION_TIME = Register("Protection_Time", 35)             # [10 ms]
OVERLOAD_TORQUE = Register("Overload_Torque", 36)             # [%]

TORQUE_ENABLE = Register("Torque_Enable", 40)
ACCELERATION = Register("Acceleration", 41)                   # [100 counts/s^2]; 254: as fast as it can
GOAL_POSITION = Register("Goal_Position", 42, 2, 15)          # [counts]
GOAL_VELOCITY = Register("Goal_Velocity", 46, 2, 15)          # [counts/s]; 0: as fast as it can
TORQUE_LIMIT = Register("Torque_Limit", 48, 2)                # [0.1 %]; a start takes it from Max_Torque_Limit
LOCK = Register("Lock", 55)                                   # 1: the EEPROM is locked

PRESENT_POSITION = Register("Present_Position", 56, 2, 15)    # [counts]
PRESENT_VELOCITY = Register("Present_Velocity", 58, 2, 15)    # [counts/s]
PRESENT_LOAD = Register("Present_Load", 60, 2, 10)            # [0.1 %]
PRESENT_VOLTAGE = Register("Present_Voltage", 62)             # [0.1 V]
PRESENT_TEMPERATURE = Register("Present_Temperature", 63)     # [deg C]
STATUS = Register("Status", 65)
MOVING = Register("Moving", 66)
PRESENT_CURRENT = Register("Present_Current", 69, 2, 15)      # [6.5 mA]
MAX_ACCELERATION = Register("Maximum_Acceleration", 85)

MILLIAMPERE_PER_COUNT = 6.5

# What is read at once. The lengths differ, so that a late answer to one cannot be taken for an answer to another.
EEPROM = (0, 40)       # address, size
CONTROL = (40, 16)
FEEDBACK = (56, 15)


def errors_in_words(error: int) -> str:
    """The set bits of an error byte; empty where none is set."""
    known = [text for bit, text in ERRORS.items() if error & bit]
    rest = error & ~sum(ERRORS)
    return ", ".join(known + ([f"unknown error bits {rest:#04x}"] if rest else []))
