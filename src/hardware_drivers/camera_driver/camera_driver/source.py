# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a camera, a recording of one, or files that stand for one give: frames with the time of their capture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class CameraError(RuntimeError):
    """A camera cannot be opened, was lost, or delivers what was not asked for; the text names it and the mend."""


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera with distortion as in sensor_msgs/CameraInfo, for images of width x height [px].

    k: 9 numbers, r: 9, p: 12, each row by row; d: coefficients of the distortion model.
    """

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image. colour: uint8 (H, W, 3), rows without padding, in the order that `encoding` says ("rgb8", "bgr8").

    stamp_ns: capture, ROS time, as well as the source knows it; depth: uint16 (H, W) in mm on the pixels of the colour
    image, 0 where unknown, None where the source gives none; owner: what must live as long as the arrays.
    """

    colour: np.ndarray
    encoding: str
    stamp_ns: int
    depth: np.ndarray | None = None
    owner: Any = field(default=None, repr=False)


class Source(ABC):
    """One camera. Only one thread at a time calls; open() after close() begins anew.

    name: for people, with what tells it from others of its kind; stamps: what its stamps are, for people;
    live: whether frames come from a sensor, whose noise makes two equal images a sign that it hangs.
    """

    name: str
    stamps: str
    live: bool
    intrinsics: Intrinsics | None = None    # known once it is open, where the source itself knows them

    @abstractmethod
    def open(self) -> None:
        """Opens the camera and checks that it is, and gives, what was asked for. Errors: CameraError."""

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, waited for READ_TIMEOUT or little longer; None where none came. Errors: CameraError."""

    @abstractmethod
    def close(self) -> None:
        """Gives the camera back. Never fails; also after an open() that did."""


READ_TIMEOUT = 0.2    # [s]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a camera. width, height [px] and rate [Hz]; 0: as the source has it."""

    width: int
    height: int
    rate: float

    def check_size(self, name: str, image: np.ndarray) -> None:
        """Errors: CameraError where the image is not of the size asked for."""
        height, width = image.shape[:2]
        if (self.width and width != self.width) or (self.height and height != self.height):
            raise CameraError(
                f"{name} delivers {width} x {height} px, not the {self.width} x {self.height} asked for; "
                "set width and height to a size that it has, or 0 to take what comes"
            )
