# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Gives frames of files at the times when a camera would."""

from __future__ import annotations

import threading
import time


class Pacer:
    """Waits for the next multiple of a period on the steady clock; one that was missed is left out."""

    def __init__(self, rate: float):
        self._period = 1.0 / rate
        self._due: float | None = None
        self._ended = threading.Event()

    def wait(self) -> None:
        now = time.monotonic()
        if self._due is None or now > self._due + self._period:
            self._due = now
        self._ended.wait(max(0.0, self._due - now))
        self._due += self._period

    def end(self) -> None:
        """Nobody waits any more."""
        self._ended.set()
