# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that every browser plays: H.264 in MP4."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from PIL import Image


class Film:
    """A video that is written while the context is open. rate: frames a second; size: (width, height), both even."""

    def __init__(self, path: Path, rate: int, size: tuple[int, int]):
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "22"})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt, self._stream.time_base = "yuv420p", Fraction(1, rate)
        self._count, self._base = 0, Fraction(1, rate)

    def __enter__(self) -> Film:
        return self

    def add(self, image: Image.Image) -> None:
        frame = av.VideoFrame.from_image(image)
        frame.pts, frame.time_base = self._count, self._base
        self._count += 1
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
