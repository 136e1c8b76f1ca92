# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ROS time as the setpoint loop sees it: carried by the steady clock, so that a jump of ROS time moves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP = 0.05    # [s]
APART_NS = 1_000_000    # two clocks that were read farther apart than this are read again
TRIES = 10


def both_clocks(
    steady: Callable[[], int] = time.monotonic_ns, ros: Callable[[], int] = time.time_ns
) -> tuple[int, int]:
    """Steady clock and ROS time of one moment [ns]. Were this process to stand still between the two, ROS time would
    seem to jump."""
    for _ in range(TRIES):
        before, now = steady(), ros()
        if steady() - before <= APART_NS:
            break
    return before, now


class ClockMap:
    """Maps steady time to ROS time. Small drifts are followed, a jump of more than 50 ms is reported."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    def update(self, steady_ns: int, ros_ns: int) -> float:
        """Re-estimates the mapping; returns the size of a jump [s], 0.0 where there was none.

        After a jump the new offset holds.
        """
        offset = ros_ns - steady_ns
        jump = 0.0
        if self._offset_ns is not None and abs(offset - self._offset_ns) > JUMP * 1e9:
            jump = (offset - self._offset_ns) / 1e9
        self._offset_ns = offset
        return jump
