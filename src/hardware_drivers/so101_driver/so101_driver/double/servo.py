# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One servo of the double: its registers as an STS3215 keeps them, with lock, power and protection."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..calibration import MOTORS, RADIANS_PER_COUNT, MotorCalibration
from ..registers import (
    BAUD_RATE,
    EEPROM_SIZE,
    GOAL_POSITION,
    HOMING_OFFSET,
    ID,
    LOCK,
    MAX_POSITION,
    MAX_TEMPERATURE,
    MAX_TORQUE,
    MAX_VOLTAGE,
    MILLIAMPERE_PER_COUNT,
    MIN_POSITION,
    MIN_VOLTAGE,
    MODEL,
    MODEL_NUMBER,
    MOVING,
    OVERHEAT,
    OVERLOAD,
    OVERLOAD_TORQUE,
    PRESENT_CURRENT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    PRESENT_TEMPERATURE,
    PRESENT_VELOCITY,
    PRESENT_VOLTAGE,
    PROTECTION_TIME,
    PROTECTIVE_TORQUE,
    RESPONSE_LEVEL,
    RETURN_DELAY,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
    Register,
)
from .plants import STALL_CURRENT, Plant, PointPlant

SIZE = 128
READ_ONLY = {*range(5), *range(56, 71)}
FACTORY = {
    MODEL_NUMBER: MODEL, RETURN_DELAY: 250, RESPONSE_LEVEL: 1, MAX_POSITION: 4095, MAX_TEMPERATURE: 70,
    MAX_VOLTAGE: 80, MIN_VOLTAGE: 40, MAX_TORQUE: 1000, Register("Phase", 18): 12, Register("P", 21): 32,
    Register("D", 22): 32, Register("Protection_Current", 28, 2): 500, PROTECTIVE_TORQUE: 20, PROTECTION_TIME: 200,
    OVERLOAD_TORQUE: 80,
}
CENTRE_HERE = 128    # written to Torque_Enable: this position becomes 2048


class ServoDouble:
    """index: of its motor in the plant; zero: the actual count where the plant's angle is 0; clock: steady [s].

    voltage [V] and temperature [deg C] may be set; error: bits that it reports.
    """

    def __init__(
        self, servo: int, index: int, plant: Plant, zero: float = 2047.0, clock: Callable[[], float] = time.monotonic
    ):
        self._index, self._plant, self._zero, self._clock = index, plant, zero, clock
        self._strained_since: float | None = None
        self.voltage, self.temperature, self.error = 7.4, 31, 0
        self.powered = True
        self._eeprom = bytearray(EEPROM_SIZE)
        self.memory = bytearray(SIZE)
        self.memory[0:2] = self._eeprom[0:2] = bytes([3, 10])
        for register, value in (FACTORY | {ID: servo}).items():
            self.burn(register, value)
        self._start()

    def calibrate(self, motor: MotorCalibration) -> None:
        """As a calibration leaves it."""
        self.burn(HOMING_OFFSET, motor.homing_offset)
        self.burn(MIN_POSITION, motor.range_min)
        self.burn(MAX_POSITION, motor.range_max)

    def burn(self, register: Register, value: int) -> None:
        """Sets a register of the EEPROM, whatever the lock says."""
        self.memory[register.address : register.end] = register.encode(value)
        self._eeprom[register.address : register.end] = register.encode(value)

    def value(self, register: Register) -> int:
        return register.within(bytes(self.memory), 0)

    def _set(self, register: Register, value: int) -> None:
        self.memory[register.address : register.end] = register.encode(value)

    # --- power --------------------------------------------------------------------------------------------------------
    def power(self, on: bool) -> None:
        if on and not self.powered:
            self._start()
        elif not on:
            self._set(TORQUE_ENABLE, 0)
            self._plant.set_goal(self._index, None)
        self.powered = on

    def restart(self) -> None:
        """A dip of its power."""
        self.power(False)
        self.power(True)

    def twin(self) -> ServoDouble:
        """Another servo with the same id, that stands elsewhere and moves nothing."""
        other = PointPlant(start=[0.3] * len(MOTORS))
        return ServoDouble(self.id, self._index, other, self._zero, self._clock)

    def _start(self) -> None:
        """What a start leaves: the EEPROM, torque off, the goal where the servo is."""
        self.memory[EEPROM_SIZE:] = bytes(SIZE - EEPROM_SIZE)
        self.memory[:EEPROM_SIZE] = self._eeprom
        self.error, self._strained_since = 0, None
        self._set(LOCK, 1)
        self._set(TORQUE_LIMIT, self.value(MAX_TORQUE))
        self._plant.set_goal(self._index, None)
        self._feel()
        self._set(GOAL_POSITION, self.value(PRESENT_POSITION))

    # --- what the bus asks --------------------------------------------------------------------------------------------
    def read(self, address: int, size: int) -> bytes:
        self._feel()
        return bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            at = address + offset
            if at >= SIZE or at in READ_ONLY:
                continue
            if at == TORQUE_ENABLE.address and byte == CENTRE_HERE:
                self._centre()
                continue
            self.memory[at] = byte
            if at < EEPROM_SIZE and not self.value(LOCK):
                self._eeprom[at] = byte
        if address == TORQUE_ENABLE.address and not self.value(TORQUE_ENABLE):    # which ends the protection
            self.error &= ~OVERLOAD
        if address < GOAL_POSITION.end and address + len(data) > TORQUE_ENABLE.address:
            self._drive()

    def _centre(self) -> None:
        offset = round(self._actual()) - 2048
        self.burn(HOMING_OFFSET, int(np.clip(offset, -2047, 2047)))

    def _drive(self) -> None:
        on = bool(self.value(TORQUE_ENABLE)) and not self.error & OVERHEAT
        if not on:
            self._plant.set_goal(self._index, None)
            return
        goal, least, most = (self.value(r) for r in (GOAL_POSITION, MIN_POSITION, MAX_POSITION))
        if least < most:
            goal = min(max(goal, least), most)
        actual = goal + self.value(HOMING_OFFSET)
        self._plant.set_goal(self._index, (actual - self._zero) * RADIANS_PER_COUNT)

    def _actual(self) -> float:
        return self._zero + float(self._plant.angles()[self._index]) / RADIANS_PER_COUNT

    def _feel(self) -> None:
        """Brings the registers of what is measured up to date."""
        before = self.value(PRESENT_POSITION)
        position = int(np.clip(round(self._actual()) - self.value(HOMING_OFFSET), -32767, 32767))
        most = self._most_torque()
        load = float(np.clip(self._plant.loads()[self._index], -most, most))
        self._set(PRESENT_POSITION, position)
        self._set(PRESENT_VELOCITY, 0)
        self._set(PRESENT_LOAD, round(1000 * load))
        self._set(PRESENT_CURRENT, round(abs(load) * STALL_CURRENT * 1000 / MILLIAMPERE_PER_COUNT))
        self._set(PRESENT_VOLTAGE, round(10 * self.voltage))
        self._set(PRESENT_TEMPERATURE, self.temperature)
        self._set(MOVING, int(position != before))
        self._strain(abs(load))
        if self.temperature >= self.value(MAX_TEMPERATURE):
            self.protect(OVERHEAT)

    def _most_torque(self) -> float:
        """The share of the motor's torque that it gives at most now."""
        share = min(self.value(TORQUE_LIMIT), self.value(MAX_TORQUE)) / 1000
        return share * self.value(PROTECTIVE_TORQUE) / 100 if self.error & OVERLOAD else share

    def _strain(self, load: float) -> None:
        """A load that lasts is an overload: then it holds on with its protective torque."""
        if load < self.value(OVERLOAD_TORQUE) / 100:
            self._strained_since = None
            return
        now = self._clock()
        if self._strained_since is None:
            self._strained_since = now
        if now - self._strained_since >= self.value(PROTECTION_TIME) / 100:
            self.error |= OVERLOAD

    def protect(self, error: int) -> None:
        """Reports an error; too much heat takes its torque away, and so does an overload that is put in: the worst that
        a servo may make of one."""
        self.error |= error
        if error & (OVERHEAT | OVERLOAD):
            self._set(TORQUE_ENABLE, 0)
            self._plant.set_goal(self._index, None)

    @property
    def id(self) -> int:
        return self.value(ID)

    @property
    def baud(self) -> int:
        """The value of its Baud_Rate register."""
        return self.value(BAUD_RATE)

    @property
    def torque(self) -> bool:
        return bool(self.value(TORQUE_ENABLE))
