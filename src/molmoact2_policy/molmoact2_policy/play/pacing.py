# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The time of a bag that is being played. No ROS here."""

from __future__ import annotations


class Pacing:
    """Bag time [ns] against a steady clock [s]: at a rate, and not while it is paused. Not thread-safe."""

    def __init__(self, start_ns: int, rate: float, paused: bool = False):
        self._rate, self._paused = rate, paused
        self._bag_ns, self._steady = float(start_ns), 0.0

    def begin(self, steady: float) -> None:
        """The first moment of playing."""
        self._steady = steady

    def now_ns(self, steady: float) -> int:
        """Bag time now."""
        passed = 0.0 if self._paused else max(steady - self._steady, 0.0)
        return int(self._bag_ns + 1e9 * passed * self._rate)

    def wait(self, until_ns: int, steady: float) -> float | None:
        """How long until a moment of the bag [s]; 0 where it is over, None while paused."""
        left = until_ns - self.now_ns(steady)
        if left <= 0:
            return 0.0
        return None if self._paused else left / 1e9 / self._rate

    def set_rate(self, rate: float, steady: float) -> None:
        """Errors: ValueError."""
        check_rate(rate)
        self._settle(steady)
        self._rate = rate

    def pause(self, paused: bool, steady: float) -> None:
        self._settle(steady)
        self._paused = paused

    @property
    def paused(self) -> bool:
        return self._paused

    def _settle(self, steady: float) -> None:
        self._bag_ns, self._steady = float(self.now_ns(steady)), steady


def check_rate(rate: float) -> None:
    """Errors: ValueError."""
    if not 0.01 <= rate <= 100.0:
        raise ValueError(f"the rate is {rate}, expected 0.01 to 100 times the recorded pace")
