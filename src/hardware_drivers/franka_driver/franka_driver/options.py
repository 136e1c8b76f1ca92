# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver's options, texts "key=value" of a system file, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from arm_controller.driver import DriverError
from molmoact2_contract import Compliance

REALTIME = ("enforce", "ignore")
ROBOTS = ("research3", "panda")
MOST = {
    "hand_speed": 0.1,
    "hand_force": 70.0,
    "close_below": 1.0,
    "open_above": 1.0,
    "min_success_rate": 1.0,
}
IN_THE_CONTRACT = tuple(field.name for field in fields(Compliance))
MAY_BE_ZERO = ("min_success_rate",)


@dataclass(frozen=True)
class Options:
    """host: name or address of the robot's controller. robot: which one it is, of ROBOTS. realtime: "enforce" wants a
    real-time kernel and priority, as libfranka does; "ignore" is for doubles and for a look in shadow mode. hand_speed
    [m/s], hand_force [N]: of the hand's fingers. close_below, open_above: shares 0 closed .. 1 open between which the
    hand keeps what it does. min_success_rate: share of commands that must reach the robot in time; 0: not watched."""

    host: str
    robot: str = "research3"
    realtime: str = "enforce"
    hand_speed: float = 0.1
    hand_force: float = 20.0
    close_below: float = 0.4
    open_above: float = 0.6
    min_success_rate: float = 0.8


def parse(texts: dict[str, str]) -> Options:
    """Errors: DriverError names the option, what was given, and what is allowed."""
    known = [field.name for field in fields(Options)]
    unknown = sorted(set(texts) - set(known))
    moved = [key for key in unknown if key in IN_THE_CONTRACT]
    if moved:
        raise DriverError(f"{', '.join(moved)}: no option, but the contract's; set it under the arm's compliance there")
    if unknown:
        raise DriverError(f"driver franka has no option {', '.join(unknown)}; it has: {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, text in texts.items():
        values[key] = text.strip() if key in ("host", "robot", "realtime") else _number(key, text)
    if not values.get("host"):
        raise DriverError("driver franka needs the option host=ADDRESS, the robot's address as Desk is opened with")
    options = Options(**values)
    for key, allowed in (("robot", ROBOTS), ("realtime", REALTIME)):
        if getattr(options, key) not in allowed:
            raise DriverError(f"option {key} is {getattr(options, key)!r}; it must be one of {', '.join(allowed)}")
    if options.close_below >= options.open_above:
        raise DriverError(
            f"option close_below is {options.close_below:g} and open_above {options.open_above:g}; "
            "the first must be the smaller, so that a command between them changes nothing"
        )
    return options


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    zero = number == 0 and key in MAY_BE_ZERO
    if not (0 < number <= MOST[key] or zero):
        least = "0" if key in MAY_BE_ZERO else "above 0"
        raise DriverError(f"option {key} is {text!r}; it must be a number from {least} to {MOST[key]:g}")
    return number
