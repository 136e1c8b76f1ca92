# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a stream of frames goes on and shows something new."""

from __future__ import annotations

from collections import deque

import numpy as np

STALL_AFTER = 0.5       # no frame for this long is a stall [s]
FIRST_FRAME = 5.0       # a camera that was just opened may take this long [s]
SLOW = 0.8              # share of the rate asked for
RATE_WINDOW = 2.0       # [s]


class StreamWatch:
    """Told of each frame; says what is wrong. Times are of the steady clock [s].

    rate: frames asked for per second, 0 where none were; frozen_after: seconds of equal bytes that count as frozen, 0:
    not checked.
    """

    def __init__(self, rate: float, stall_after: float = STALL_AFTER, frozen_after: float = 0.0):
        self._rate, self._stall_after, self._frozen_after = rate, stall_after, frozen_after
        self._opened = 0.0
        self._newest: float | None = None
        self._times: deque[float] = deque()
        self._image: np.ndarray | None = None
        self._changed = 0.0

    def opened(self, now: float) -> None:
        """The camera was opened, for the first time or again. What it showed last is kept: a camera that shows the same
        after it was opened again is still frozen, though it is left open as long as before to show something else."""
        self._opened, self._newest = now, None
        self._times.clear()

    def frame(self, now: float, image: np.ndarray) -> None:
        self._newest = now
        self._times.append(now)
        while self._times[0] < now - RATE_WINDOW:
            self._times.popleft()
        if self._frozen_after and not self._same(image):
            self._changed = now

    def _same(self, image: np.ndarray) -> bool:
        """Whether an image equals the one before; keeps a copy of it, because its owner uses the memory again."""
        before = self._image
        if before is None or before.shape != image.shape:
            self._image = image.copy()
            return False
        # Images of a sensor differ in their first row already.
        if np.array_equal(image[0], before[0]) and np.array_equal(image, before):
            return True
        np.copyto(before, image)
        return False

    def trouble(self, now: float) -> str:
        """Why the camera should be opened again, empty where it should not."""
        if self._newest is None:
            waited = now - self._opened
            return f"gives no frame, {waited:.1f} s after it was opened" if waited > FIRST_FRAME else ""
        if now - self._newest > self._stall_after:
            return f"stalls: no frame for {now - self._newest:.1f} s"
        if self.frozen and self._newest - self._opened > self._frozen_after:
            dark = self._image is not None and not self._image.any()
            what = "only black, is its lens covered?" if dark else "the same bytes"
            return f"is frozen: {what} for {self._newest - self._changed:.1f} s"
        return ""

    @property
    def frozen(self) -> bool:
        """Whether the newest frame is one of a row of equal ones that is too long, and not to be used."""
        if not self._frozen_after or self._newest is None or self._image is None:
            return False
        return self._newest - self._changed > self._frozen_after

    def measured_rate(self, now: float) -> float:
        """Frames per second, over the last two seconds or the time since it was opened."""
        recent = sum(1 for t in self._times if t > now - RATE_WINDOW)
        return recent / min(RATE_WINDOW, max(now - self._opened, 1e-3))

    def slow(self, now: float) -> bool:
        """Whether fewer frames come than were asked for; not said in the first seconds."""
        started = self._newest is not None and now - self._opened > RATE_WINDOW
        return bool(self._rate) and started and self.measured_rate(now) < SLOW * self._rate
