# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A folder of images as a camera."""

from __future__ import annotations

from pathlib import Path

import cv2

from .clock import HostClocks
from .pacing import Pacer
from .source import CameraError, Frame, Source, Wanted

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class ImageFolderSource(Source):
    """The images of a folder in the order of their names, at the rate asked for, again and again."""

    live = False
    stamps = "when the image was shown"

    def __init__(self, path: str, wanted: Wanted, clocks: HostClocks):
        self._folder, self._wanted, self._clocks = Path(path), wanted, clocks
        self.name = f"image folder {path}"
        self._files: list[Path] = []
        self._next = 0
        self._pacer = Pacer(30.0)
        self._shape: tuple[int, ...] | None = None

    def open(self) -> None:
        if not self._folder.is_dir():
            raise CameraError(f"{self.name} is not there; give the path of a folder")
        self._files = sorted(f for f in self._folder.iterdir() if f.suffix.lower() in SUFFIXES)
        if not self._files:
            raise CameraError(f"{self.name} holds no images ({', '.join(SUFFIXES)})")
        if not self._wanted.rate:
            raise CameraError(f"{self.name} has no rate of its own; set rate")
        self._pacer, self._next, self._shape = Pacer(self._wanted.rate), 0, None
        self.read()

    def read(self) -> Frame | None:
        self._pacer.wait()
        file = self._files[self._next]
        self._next = (self._next + 1) % len(self._files)
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise CameraError(f"{self.name}: {file.name} cannot be read as an image; take it out or mend it")
        self._wanted.check_size(f"{self.name}: {file.name}", image)
        if self._shape is not None and image.shape != self._shape:
            raise CameraError(
                f"{self.name}: {file.name} has {image.shape[1]} x {image.shape[0]} px, those before it "
                f"{self._shape[1]} x {self._shape[0]}; give all images one size"
            )
        self._shape = image.shape
        return Frame(image, "bgr8", self._clocks.ros_ns())

    def close(self) -> None:
        self._pacer.end()
