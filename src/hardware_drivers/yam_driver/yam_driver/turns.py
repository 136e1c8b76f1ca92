# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whole turns: a motor that was switched on beyond half a turn reads a whole one off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arm_controller.driver import DriverError

from .hardware import Hardware
from .motors import Feedback

TURNS = np.array([0.0, 2 * np.pi, -2 * np.pi])
SLACK = 0.25    # [rad] beyond a joint's range that sagging and play explain


def whole_turns(
    readings: Sequence[Feedback], hardware: Hardware, names: Sequence[str], gripper: tuple[float, float]
) -> np.ndarray:
    """What each motor reads at its joint's zero [rad], (J,): a turn only where it must be.

    gripper: what its motor reads closed and open [rad]. Errors: DriverError where no whole turn brings a joint into its
    range.
    """
    low = np.append(hardware.limits[:, 0], min(gripper))
    high = np.append(hardware.limits[:, 1], max(gripper))
    offsets = np.zeros(len(names))
    for i, (reading, direction) in enumerate(zip(readings, hardware.directions, strict=True)):
        at = (reading.position - TURNS) * direction
        beyond = np.maximum(np.maximum(low[i] - at, at - high[i]), 0.0)
        best = int(np.argmin(np.where(beyond <= SLACK, 0.0, beyond)))
        if beyond[best] > SLACK:
            mend = "set its limits anew: molmoact2 yam gripper" if i == len(names) - 1 else "set its zero anew"
            raise DriverError(
                f"motor {hardware.motors[i].id} ({names[i]}) reads {at[best]:.2f} rad, outside {low[i]:.2f} .. "
                f"{high[i]:.2f}: its zero is not where it was set, or option arm_type names another arm; put the joint "
                f"near its zero and switch the power off and on, or {mend}"
            )
        offsets[i] = TURNS[best]
    return offsets
