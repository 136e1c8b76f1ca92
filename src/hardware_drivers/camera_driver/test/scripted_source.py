# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A source whose every step a test decides."""

from __future__ import annotations

import queue

import numpy as np

from camera_driver.source import CameraError, Frame, Source

LOST = "scripted camera is lost"


class ScriptedSource(Source):
    """read() gives what the test put into `frames`; a CameraError there is raised. opened: how often it was."""

    name, stamps, live = "scripted camera", "counted", True

    def __init__(self) -> None:
        self.frames: queue.Queue[Frame | CameraError] = queue.Queue()
        self.refusals: list[str] = []
        self.opened = self.closed = 0
        self._count = 0

    def give(self, value: int | None = None, stamp_ns: int | None = None) -> Frame:
        """Puts a frame of this value, or one unlike the one before, into the queue and returns it."""
        self._count += 1
        pixels = np.full((4, 6, 3), self._count % 251 if value is None else value, np.uint8)
        frame = Frame(pixels, "rgb8", self._count * 33_000_000 if stamp_ns is None else stamp_ns)
        self.frames.put(frame)
        return frame

    def open(self) -> None:
        if self.refusals:
            raise CameraError(self.refusals.pop(0))
        self.opened += 1

    def read(self) -> Frame | None:
        try:
            item = self.frames.get(timeout=0.02)
        except queue.Empty:
            return None
        if isinstance(item, CameraError):
            raise item
        return item

    def close(self) -> None:
        self.closed += 1
