# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver's options, texts "key=value" of a system file, checked. Nm, N, rad, m."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from arm_controller.driver import DriverError

REALTIME = ("enforce", "ignore")
# Impedance of the joints: what libfranka's own example of a joint impedance controller uses.
STIFFNESS = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)    # [Nm/rad]
DAMPING = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)            # [Nm s/rad]
MOST = {
    "stiffness": 1500.0,
    "damping": 200.0,
    "torque_thresholds": 87.0,
    "force_thresholds": 100.0,
    "hand_speed": 0.1,
    "hand_force": 70.0,
    "close_below": 1.0,
    "open_above": 1.0,
    "min_success_rate": 1.0,
}
LENGTHS = {"stiffness": 7, "damping": 7, "torque_thresholds": 7, "force_thresholds": 6}
MAY_BE_ZERO = ("min_success_rate",)


@dataclass(frozen=True)
class Options:
    """host: name or address of the robot's controller. realtime: "enforce" wants a real-time kernel and priority, as
    libfranka does; "ignore" is for doubles and for a look in shadow mode. stiffness, damping: of the joints, (7,).
    torque_thresholds (7,) [Nm], force_thresholds (6,) [N, Nm]: where the robot's own collision reflex stops it.
    hand_speed [m/s], hand_force [N]: of the hand's fingers. close_below, open_above: shares 0 closed .. 1 open between
    which the hand keeps what it does. min_success_rate: share of commands that must reach the robot in time; 0: not
    watched."""

    host: str
    realtime: str = "enforce"
    stiffness: tuple[float, ...] = STIFFNESS
    damping: tuple[float, ...] = DAMPING
    torque_thresholds: tuple[float, ...] = (20.0,) * 7
    force_thresholds: tuple[float, ...] = (30.0,) * 6
    hand_speed: float = 0.1
    hand_force: float = 20.0
    close_below: float = 0.4
    open_above: float = 0.6
    min_success_rate: float = 0.8


def parse(texts: dict[str, str]) -> Options:
    """Errors: DriverError names the option, what was given, and what is allowed."""
    known = [field.name for field in fields(Options)]
    unknown = sorted(set(texts) - set(known))
    if unknown:
        raise DriverError(f"driver franka has no option {', '.join(unknown)}; it has: {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, text in texts.items():
        values[key] = text.strip() if key in ("host", "realtime") else _numbers(key, text)
    if not values.get("host"):
        raise DriverError("driver franka needs the option host=ADDRESS, the robot's address as Desk is opened with")
    options = Options(**values)
    if options.realtime not in REALTIME:
        raise DriverError(f"option realtime is {options.realtime!r}; it must be one of {', '.join(REALTIME)}")
    if options.close_below >= options.open_above:
        raise DriverError(
            f"option close_below is {options.close_below:g} and open_above {options.open_above:g}; "
            "the first must be the smaller, so that a command between them changes nothing"
        )
    return options


def _numbers(key: str, text: str) -> float | tuple[float, ...]:
    length = LENGTHS.get(key, 1)
    most, words = MOST[key], text.split(",")
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if len(numbers) == 1 and length > 1:
        numbers *= length
    least = "0" if key in MAY_BE_ZERO else "above 0"
    sound = len(numbers) == length and all(
        math.isfinite(n) and n <= most and (n > 0 or (n == 0 and key in MAY_BE_ZERO)) for n in numbers
    )
    if not sound:
        count = "a number" if length == 1 else f"one number, or {length} with commas between,"
        raise DriverError(f"option {key} is {text!r}; it must be {count} from {least} to {most:g}")
    return numbers if length > 1 else numbers[0]
