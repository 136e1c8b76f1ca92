# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a follower reports of its health, made of what the watch reads with every position. No bus here."""

from __future__ import annotations

from collections.abc import Mapping

from arm_controller import driver
from arm_controller.health import Durations

from .bus import ServoBus
from .supply import WARNING, Supply
from .watch import MOST_CURRENT, MOST_CURRENT_ELSE, WARN_TEMPERATURE, Reading, Watch


class HealthRecord:
    """What there is to be told of one arm: its newest readings, and what the bus took and cost since the start."""

    def __init__(self) -> None:
        self.cycles = Durations()
        self.newest: Mapping[str, Reading] = {}
        self.stops: Mapping[str, int] = {}    # temperature at which the arm stops, by motor [deg C]
        self.supplies: Mapping[str, Supply] = {}
        self.errors = 0
        self._retries = self._broken = 0    # of buses before the one that is open

    def take(self, readings: Mapping[str, Reading], watch: Watch, seconds: float) -> None:
        """seconds: what the questions of this cycle took."""
        self.newest, self.stops, self.supplies = readings, watch.stops, watch.supplies
        self.cycles.add(seconds)

    def leave(self, bus: ServoBus) -> None:
        """A bus is closed: its counts are kept."""
        self._retries += bus.retries
        self._broken += bus.broken

    def readings(self, bus: ServoBus | None) -> list[driver.Reading]:
        """bus: the one that is open now."""
        told: list[driver.Reading] = []
        for name, servo in self.newest.items():
            most, stop = MOST_CURRENT.get(name, MOST_CURRENT_ELSE), self.stops[name]
            least = self.supplies[name].least
            told += [
                driver.Reading(f"{name} temperature", float(servo.temperature), "°C", WARN_TEMPERATURE, stop),
                driver.Reading(f"{name} voltage", servo.voltage, "V", round(least + WARNING, 1), least),
                # The arm stops only where it lasts, which the watch knows.
                driver.Reading(f"{name} current", abs(servo.current), "A", most),
                driver.Reading(f"{name} load", 100 * abs(servo.load), "%"),
            ]
        told += self.cycles.readings("bus cycle")
        told += [
            driver.Reading("questions asked again", self._retries + (bus.retries if bus else 0), ""),
            driver.Reading("bytes in no sound frame", self._broken + (bus.broken if bus else 0), ""),
            driver.Reading("failed requests", self.errors, ""),
        ]
        return told
