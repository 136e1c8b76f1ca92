# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whole turns: a motor that was switched on beyond half a turn reads a whole one off."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from arm_controller.driver import DriverError

from .hardware import Hardware
from .motors import Feedback

TURNS = np.array([0.0, 2 * np.pi, -2 * np.pi])    # the first that fits is taken
SLACK = 0.25    # [rad] beyond a joint's range that sagging and play explain

logger = logging.getLogger("yam_driver")


def whole_turns(
    readings: Sequence[Feedback], hardware: Hardware, names: Sequence[str], gripper: tuple[float, float],
    shafts: np.ndarray | None = None,
) -> np.ndarray:
    """What each motor reads at its joint's zero [rad], (J,): a turn only where it must be, or where its shaft was last.

    gripper: what its motor reads closed and open [rad]. shafts: where they were before the power went, after offset and
    direction [rad], (J,). Errors: DriverError where no whole turn brings a joint into its range.
    """
    low = np.append(hardware.limits[:, 0], min(gripper))
    high = np.append(hardware.limits[:, 1], max(gripper))
    offsets = np.zeros(len(names))
    for i, (reading, direction) in enumerate(zip(readings, hardware.directions, strict=True)):
        at = (reading.position - TURNS) * direction
        beyond = np.maximum(np.maximum(low[i] - at, at - high[i]), 0.0)
        fits = np.flatnonzero(beyond <= SLACK)
        best = int(fits[0]) if len(fits) else int(np.argmin(beyond))
        if len(fits) > 1:    # a gripper whose stroke is more than a turn, near one of its ends
            if shafts is not None:
                best = int(fits[np.argmin(np.abs(at[fits] - shafts[i]))])
            _warn(hardware.motors[i].id, names[i], reading.position, at[fits], at[best], gripper, shafts is not None)
        if beyond[best] > SLACK:
            mend = "set its limits anew: molmoact2 yam gripper" if i == len(names) - 1 else "set its zero anew"
            raise DriverError(
                f"motor {hardware.motors[i].id} ({names[i]}) reads {at[best]:.2f} rad, outside {low[i]:.2f} .. "
                f"{high[i]:.2f}: its zero is not where it was set, or option arm_type names another arm; put the joint "
                f"near its zero and switch the power off and on, or {mend}"
            )
        offsets[i] = TURNS[best]
    return offsets


def _warn(
    number: int, name: str, reads: float, may_be: np.ndarray, taken: float, gripper: tuple[float, float],
    came_back: bool,
) -> None:
    """may_be: where the shaft is by each turn that fits, taken: by the one that is taken [rad]."""
    def told(value: float) -> str:
        return f"{value:.2f} rad ({'closed' if abs(value - gripper[0]) < abs(value - gripper[1]) else 'open'})"

    logger.warning(
        "motor %d (%s)%s reads %.2f rad, which may be %s; taken is %s%s; look at it before you arm: where that is "
        "wrong, put the gripper half open by hand and switch the power off and on",
        number, name, " came back after a loss of power and" if came_back else "", reads,
        " or ".join(map(told, may_be)), told(taken), ", the nearest to where it was" if came_back else "",
    )


class Doubt:
    """Whether a gripper may be a whole turn off: until it was seen where only one reading fits its stroke.

    gripper: what its motor reads closed and open [rad].
    """

    def __init__(self, gripper: tuple[float, float]):
        self._low, self._high = min(gripper) - SLACK, max(gripper) + SLACK
        self._sure = False

    def begin(self) -> None:
        """Turns were counted anew."""
        self._sure = False

    def fitting(self, shaft: float) -> int:
        """How many turns may be the right one, with the one that is taken. shaft: where it is by that [rad]."""
        fits = (shaft - TURNS >= self._low) & (shaft - TURNS <= self._high)
        others = int(fits[1:].sum())
        self._sure = self._sure or (bool(fits[0]) and not others)
        return 1 if self._sure else 1 + others
