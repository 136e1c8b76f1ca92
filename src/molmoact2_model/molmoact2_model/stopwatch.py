# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How long each stage of a call takes."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Stopwatch:
    """Splits a call into stages; on a GPU each lap waits for the work it measures, where it is to be watched."""

    def __init__(self, device: torch.device, watched: bool, clock: Callable[[], float]) -> None:
        self._device, self._laps, self._clock = device, dict[str, float](), clock
        self._waits = watched and device.type == "cuda"
        self._begin = self._last = clock()

    def lap(self, name: str) -> None:
        if self._waits:
            torch.cuda.synchronize(self._device)
        now = self._clock()
        self._laps[name], self._last = now - self._last, now

    def done(self) -> dict[str, float]:
        return {**self._laps, "total": self._last - self._begin}
