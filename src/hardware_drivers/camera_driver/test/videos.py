# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Video files as doubles of UVC cameras, and the faults of one on command, around OpenCV's own VideoCapture."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, RATE = 160, 120, 30


def grey(k: int) -> int:
    return 30 + 6 * k


def write_video(path: Path, frames: int = 20, size: tuple[int, int] = (WIDTH, HEIGHT), rate: float = RATE) -> Path:
    """Frame k is grey(k) everywhere. MJPEG, so that every frame stands alone."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, size)
    assert writer.isOpened()
    for k in range(frames):
        writer.write(np.full((size[1], size[0], 3), grey(k), np.uint8))
    writer.release()
    return path


class UvcDouble:
    """Opens a video file where a device is asked for, and behaves as OpenCV does before a V4L2 device: paced, stamped
    on the steady clock, with sizes, rates and formats granted or not. The pixels go through the real VideoCapture.

    stall: while set, no frame comes, and grab() gives up as a device's does; gone: the device is unplugged; frozen: the
    same frame again and again, also after it was opened again; offset: of the driver's stamps to the steady clock [s],
    None: it gives none.
    """

    def __init__(self, video: Path):
        self.video = video
        self.stall, self.gone, self.frozen = threading.Event(), threading.Event(), threading.Event()
        self.offset: float | None = -0.004
        self.granted: dict[int, float] = {}    # answers to get() in place of what was asked for
        self.asked: dict[int, float] = {}
        self.image: np.ndarray | None = None    # the newest one

    def __call__(self, path: str, backend: int) -> _Capture:
        assert backend == cv2.CAP_V4L2
        return _Capture(self)


class _Capture:
    def __init__(self, double: UvcDouble):
        self._double = double
        self._capture = cv2.VideoCapture(str(double.video))
        self._stamp = 0.0

    def isOpened(self) -> bool:    # noqa: N802 (OpenCV's name)
        return self._capture.isOpened() and not self._double.gone.is_set()

    def set(self, key: int, value: float) -> bool:
        self._double.asked[key] = value
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return self._stamp
        return self._double.granted.get(key, self._double.asked.get(key, 0.0))

    def grab(self) -> bool:
        double = self._double
        if double.gone.wait(1 / RATE):
            return False
        if double.stall.is_set():
            return False
        if not self._capture.grab():
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            self._capture.grab()
        if not double.frozen.is_set() or double.image is None:
            double.image = self._capture.retrieve()[1]
        self._stamp = 0.0 if double.offset is None else (time.monotonic() + double.offset) * 1000
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        assert self._double.image is not None
        return True, self._double.image.copy()

    def release(self) -> None:
        self._capture.release()
