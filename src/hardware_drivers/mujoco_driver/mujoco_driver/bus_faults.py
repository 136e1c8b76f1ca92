# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the readings of simulated servos can suffer, so that what follows from it can be seen."""

from __future__ import annotations

import threading

import numpy as np

FAULTS = {
    "ok": "readings are what they are",
    "silent": "reading is not answered",
    "frozen": "positions repeat, with fresh stamps",
    "stale": "positions and stamps repeat",
    "nan": "the first servo's position is not a number",
    "jump": "the first servo's position leaps by 1 rad in one reading of ten",
}
LEAP, LEAP_EVERY = 1.0, 10    # [rad], [readings]


class ReadingFaults:
    """The fault that is set, and what it needs to know of readings before. Any thread may call."""

    def __init__(self, fault: str = "ok"):
        self._lock = threading.Lock()
        self.set(fault)

    def set(self, fault: str) -> None:
        """Errors: ValueError for an unknown fault; the one that was set stays."""
        if fault not in FAULTS:
            raise ValueError(f"bus fault {fault!r} is not there; there are: {', '.join(FAULTS)}")
        with self._lock:
            self._fault, self._readings = fault, 0
            self._first: tuple[int, np.ndarray] | None = None

    def spoil(self, stamp: int, positions: np.ndarray) -> tuple[int, np.ndarray] | None:
        """A reading as the bus gives it; None where it gives none. stamp: [ns]; positions: [rad], one per servo."""
        with self._lock:
            fault, leaps = self._fault, self._readings % LEAP_EVERY == 0
            self._readings += 1
            self._first = first = self._first or (stamp, positions)
        if fault == "silent":
            return None
        if fault == "frozen":
            return stamp, first[1]
        if fault == "stale":
            return first
        spoilt = positions.copy()
        if fault == "nan":
            spoilt[0] = np.nan
        if fault == "jump" and leaps:
            spoilt[0] += LEAP
        return stamp, spoilt
