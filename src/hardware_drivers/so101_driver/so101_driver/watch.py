# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The watch over servos: what they say of their temperature, current, voltage and errors with each position."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .calibration import GRIPPER
from .protocol import Status
from .registers import (
    FEEDBACK,
    MILLIAMPERE_PER_COUNT,
    OVERLOAD,
    PRESENT_CURRENT,
    PRESENT_LOAD,
    PRESENT_POSITION,
    PRESENT_TEMPERATURE,
    PRESENT_VELOCITY,
    PRESENT_VOLTAGE,
    Register,
    errors_in_words,
)
from .supply import Supply

WARN_TEMPERATURE, STOP_TEMPERATURE = 60, 70    # [deg C]
BEFORE_LIMIT = 2           # [deg C]; a servo drops its torque at its own limit, so the stop comes before it
COOLED = 3                 # [deg C] below a warning until it may be given again
MOST_CURRENT = {GRIPPER: 1.6}    # [A]; the servo's own protection
MOST_CURRENT_ELSE = 2.0    # [A]; a blocked motor takes about 2.5 A
CURRENT_TIME = 1.0         # [s] that a motor may take more
PARKING = 30.0             # [s] of motion after a stop for heat was cleared: a hot arm must not stay raised

_log = logging.getLogger("so101_driver")


@dataclass(frozen=True)
class Reading:
    """One servo at one time. position [counts], velocity [counts/s], load: share of the motor's torque, -1 .. 1,
    voltage [V], temperature [deg C], current [A], error: bits of registers.ERRORS."""

    position: int
    velocity: int
    load: float
    voltage: float
    temperature: int
    current: float
    error: int

    @classmethod
    def of(cls, status: Status) -> Reading:
        """Of an answer with the block FEEDBACK."""

        def value(register: Register) -> int:
            return register.within(status.data, FEEDBACK[0])

        return cls(
            value(PRESENT_POSITION), value(PRESENT_VELOCITY), value(PRESENT_LOAD) / 1000, value(PRESENT_VOLTAGE) / 10,
            value(PRESENT_TEMPERATURE), value(PRESENT_CURRENT) * MILLIAMPERE_PER_COUNT / 1000, status.error,
        )


class Watch:
    """Judges readings. By motor, limits: the temperature at which the servo drops its torque by itself [deg C];
    supplies: what it needs."""

    def __init__(self, limits: Mapping[str, int], supplies: Mapping[str, Supply]):
        self.supplies = supplies
        self.stops = {name: min(STOP_TEMPERATURE, limit - BEFORE_LIMIT) for name, limit in limits.items()}
        self._warned: set[str] = set()
        self._squeezes = False               # the gripper's overload has been told
        self._hot = False
        self._may_park_until = -math.inf     # steady clock [s]
        self._over_since: dict[str, float] = {}

    def check(self, readings: Mapping[str, Reading], ids: Mapping[str, int], steady: float) -> str:
        """What is wrong, with its mend; empty where nothing is. Warns in the log. steady: steady-clock time [s]."""
        self._hot = any(reading.temperature >= self.stops[name] for name, reading in readings.items())
        problems = [self._problem(name, f"servo {ids[name]} ({name})", r, steady) for name, r in readings.items()]
        return "; ".join(filter(None, problems))

    def cleared(self, steady: float) -> None:
        """An operator has cleared a fault: where that was heat, the arm may be parked now. steady: steady-clock time
        [s]."""
        if self._hot:
            self._may_park_until = steady + PARKING
            _log.warning("the arm is as hot as before: park it within %g s, and release it", PARKING)

    def _problem(self, name: str, servo: str, reading: Reading, steady: float) -> str:
        self._warn(name, servo, reading)
        # A gripper that holds something firmly counts as overloaded, and goes on holding it, with less torque.
        error = reading.error & ~OVERLOAD if name == GRIPPER else reading.error
        if error:
            errors = errors_in_words(error)
            return f"{servo} reports: {errors}; its torque may be off or reduced: see what blocks it, then clear_fault"
        if reading.temperature >= self.stops[name] and steady >= self._may_park_until:
            return (
                f"{servo} is at {reading.temperature} deg C, {self.stops[name]} or more; it drops its torque at "
                f"{self.stops[name] + BEFORE_LIMIT}: clear_fault, arm, park within {PARKING:g} s, release, let it cool"
            )
        misfits = self.supplies[name].misfits(reading.voltage)    # another plug may have been put in meanwhile
        if misfits:
            return f"{servo} {misfits}"
        return self._overcurrent(name, servo, reading, steady)

    def _warn(self, name: str, servo: str, reading: Reading) -> None:
        if reading.temperature >= WARN_TEMPERATURE and name not in self._warned:
            self._warned.add(name)
            _log.warning("%s is at %d deg C; the arm stops at %d", servo, reading.temperature, self.stops[name])
        elif reading.temperature <= WARN_TEMPERATURE - COOLED:
            self._warned.discard(name)
        if name == GRIPPER:
            squeezes = bool(reading.error & OVERLOAD)
            if squeezes and not self._squeezes:
                _log.warning("%s is overloaded: it goes on holding, with its protective torque only", servo)
            self._squeezes = squeezes

    def _overcurrent(self, name: str, servo: str, reading: Reading, steady: float) -> str:
        most = MOST_CURRENT.get(name, MOST_CURRENT_ELSE)
        if abs(reading.current) <= most:
            self._over_since.pop(name, None)
            return ""
        if steady - self._over_since.setdefault(name, steady) < CURRENT_TIME:
            return ""
        taken = abs(reading.current)
        return f"{servo} takes {taken:.1f} A for {CURRENT_TIME:g} s, more than {most:g} A: see what blocks it"
