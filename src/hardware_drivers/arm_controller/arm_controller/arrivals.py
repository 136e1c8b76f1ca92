# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""When the next chunk is due, and how slowly to go so that the running one lasts until then."""

from __future__ import annotations

from collections import deque

RECENT = 8          # arrivals that make the forecast
PATIENCE = 0.1      # share of the interval over which a chunk that is nearly due or overdue is still waited for


class Arrivals:
    """Forecasts the next chunk by the longest of the recent intervals between two. Times in seconds, one clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._latency = 0.0
        self._intervals: deque[float] = deque(maxlen=RECENT)

    def add(self, now: float, latency: float) -> None:
        """A chunk came. latency: from its capture; with one inference at a time the next takes no less. It stands in
        while no interval is known."""
        if self._last is not None and now > self._last:
            self._intervals.append(now - self._last)
        self._last, self._latency = now, latency

    def pause(self) -> None:
        """Nothing is followed now; the time until the next chunk is no interval."""
        self._last = None

    def rate(self, left: float, now: float) -> float:
        """Rate of path time, 0 .. 1, at which `left` seconds of path last until the next chunk.

        One that is overdue is waited for ever more slowly, without standing still: what is left then decays, so none
        has to be kept in hand. Path that is still left when a chunk comes in time was slowed for nothing.
        """
        if self._last is None:
            return 1.0
        interval = max(self._intervals, default=self._latency)
        return min(1.0, left / max(self._last + interval - now, PATIENCE * interval))
