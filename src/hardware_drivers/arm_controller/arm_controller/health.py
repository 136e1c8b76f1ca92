# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a device says of its health: asked of the driver, judged, and put in words. No ROS here."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .driver import ArmDriver, Reading

KEPT = 1000    # durations; some seconds of cycles


class Level(IntEnum):
    """As diagnostic_msgs/DiagnosticStatus counts them."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Health:
    """What a driver reported at one time. failed: why it could not, in words; empty where it could."""

    readings: tuple[Reading, ...]
    failed: str = ""


def ask(driver: ArmDriver) -> Health:
    """Never raises: a figure that is missing is no reason to stop an arm."""
    try:
        return Health(tuple(driver.health()))
    except Exception as error:    # a defect of the driver's, which is shown
        return Health((), f"the driver cannot say how its device is: {error!r}")


def level(reading: Reading) -> Level:
    """A figure that is no number is a warning: whoever looks must see that it is not known."""
    if not math.isfinite(reading.value):
        return Level.WARN
    sign = -1.0 if reading.warn is not None and reading.stop is not None and reading.stop < reading.warn else 1.0
    if reading.stop is not None and sign * reading.value >= sign * reading.stop:
        return Level.ERROR
    return Level.WARN if reading.warn is not None and sign * reading.value >= sign * reading.warn else Level.OK


def summary(health: Health) -> tuple[Level, str]:
    """The worst level of all readings, and the reading that has it, in words."""
    if health.failed:
        return Level.ERROR, health.failed
    worst = max(map(level, health.readings), default=Level.OK)
    if worst == Level.OK:
        return worst, f"{len(health.readings)} readings, none of them out of the ordinary"
    reading = max((r for r in health.readings if level(r) == worst), key=_beyond)
    if not math.isfinite(reading.value):
        return worst, f"{reading.name} is not known"
    bound = reading.stop if worst == Level.ERROR else reading.warn
    assert bound is not None
    what = "the stop is at" if worst == Level.ERROR else "the warning is at"
    return worst, f"{reading.name} is {_words(reading.value, reading.unit)}; {what} {_words(bound, reading.unit)}"


def _beyond(reading: Reading) -> float:
    """How far a reading is past its bounds, as a share of them: to compare readings of different units."""
    bound = reading.stop if level(reading) == Level.ERROR else reading.warn
    return abs(reading.value - bound) / max(abs(bound), 1e-9) if bound is not None and bound != 0 else 0.0


def label(reading: Reading) -> str:
    """Its name and unit: "elbow_flex temperature [°C]"."""
    return f"{reading.name} [{reading.unit}]" if reading.unit else reading.name


def figure(value: float, unit: str) -> str:
    """A value without its unit; counts, which have none, whole: "31.0", "7.40", "0.125", "3"."""
    if not unit:
        return f"{value:g}"
    places = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{places}f}"


def _words(value: float, unit: str) -> str:
    return f"{figure(value, unit)} {unit}".rstrip()


class Durations:
    """The last durations of something, e.g. of the cycles of a bus [s]."""

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float) -> None:
        self._kept.append(seconds)

    def readings(self, name: str) -> list[Reading]:
        """Median and 99th percentile; none before the first."""
        return durations(name, list(self._kept))    # a copy at once: another thread may add


def durations(name: str, kept: Sequence[float]) -> list[Reading]:
    """Median and 99th percentile in ms of durations [s]; nothing where there are none."""
    if not kept:
        return []
    median, late = np.percentile(kept, (50, 99)) * 1000
    return [Reading(f"{name} median", float(median), "ms"), Reading(f"{name} p99", float(late), "ms")]
