# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""UVC cameras, and video files, through OpenCV's VideoCapture."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .clock import HostClocks
from .devices import VideoDevices
from .pacing import Pacer
from .source import CameraError, Frame, Source, Wanted

OLDEST = 1.0     # a driver's stamp that is older than this is none of the steady clock [s]
logger = logging.getLogger("camera_driver")
RATE_OFF = 0.1   # share by which the rate that a driver grants may differ from the one asked for
PASSING = re.compile(r"/dev/video\d+")    # numbers are given anew at each start of the machine
Open = Callable[..., Any]    # cv2.VideoCapture, or what behaves like it


class VideoCaptureSource(Source):
    """What uses cv2.VideoCapture shares: frames are checked, and are BGR, as OpenCV has them."""

    def __init__(self, wanted: Wanted, clocks: HostClocks, open_capture: Open = cv2.VideoCapture):
        self._wanted, self._clocks, self._open_capture = wanted, clocks, open_capture
        self._capture: Any = None

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _retrieve(self, stamp_ns: int) -> Frame | None:
        there, image = self._capture.retrieve()
        if not there:    # a JPEG that came damaged
            return None
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise CameraError(f"{self.name} delivers {image.dtype} {image.shape}; colour images of 8 bits are expected")
        self._wanted.check_size(self.name, image)
        return Frame(np.ascontiguousarray(image), "bgr8", stamp_ns)


class UvcSource(VideoCaptureSource):
    """A UVC camera by path or name, over V4L2.

    The stamp is the driver's: uvcvideo takes the time (CLOCK_MONOTONIC) when the first packet of a frame arrives, which
    is after its exposure and before its transfer. Where a driver gives none, it is the time when the frame was fetched.
    fourcc: pixel format on the wire, such as "MJPG" or "YUYV"; empty: the one that OpenCV takes.
    """

    live = True

    def __init__(
        self,
        device: str,
        wanted: Wanted,
        clocks: HostClocks,
        fourcc: str = "",
        devices: VideoDevices | None = None,
        open_capture: Open = cv2.VideoCapture,
    ):
        super().__init__(wanted, clocks, open_capture)
        self._device, self._fourcc, self._devices = device, fourcc, devices or VideoDevices()
        self.name = f"UVC camera {device}"
        self.stamps = "not known yet"
        self._identity = ""    # of the camera that was opened first

    def open(self) -> None:
        device = self._devices.find(self._device)
        if self._identity and device.identity != self._identity:
            raise CameraError(
                f"at {self._device} there is another camera than at the start: {device.identity}, not "
                f"{self._identity}; plug that one in there again, or start the camera anew"
            )
        self._devices.check(device)
        self.name = f"UVC camera {device.path} ({device.name})"
        self._capture = self._open_capture(str(device.path), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(
                f"{self.name} cannot be opened as a camera; another program may have it, or it is no capture device: "
                "see `v4l2-ctl --list-devices`"
            )
        self._ask()
        if self.read() is None:
            raise CameraError(f"{self.name} gives no image that can be read; use another cable, or set fourcc")
        if not self._identity and PASSING.fullmatch(self._device):
            logger.warning(
                "%s is whatever camera the kernel numbered so: name it by its socket, /dev/v4l/by-path/... or two may "
                "be swapped at the next start", self._device,
            )
        self._identity = device.identity

    def _ask(self) -> None:
        """Sets format, size and rate, in the order in which drivers want them, and checks what was granted."""
        wanted, capture = self._wanted, self._capture
        if self._fourcc:
            code = cv2.VideoWriter.fourcc(*self._fourcc)
            capture.set(cv2.CAP_PROP_FOURCC, code)
            if int(capture.get(cv2.CAP_PROP_FOURCC)) != code:
                raise CameraError(
                    f"{self.name} does not give {self._fourcc}; its formats, sizes and rates are listed by "
                    f"`v4l2-ctl -d {self._device} --list-formats-ext`"
                )
        for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, wanted.width), (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)):
            if value:
                capture.set(key, value)
        if wanted.rate:
            capture.set(cv2.CAP_PROP_FPS, wanted.rate)
            granted = capture.get(cv2.CAP_PROP_FPS)
            if granted > 0 and abs(granted - wanted.rate) > RATE_OFF * wanted.rate:
                raise CameraError(
                    f"{self.name} grants {granted:g} frames per second at this size, not {wanted.rate:g} as asked; "
                    "set rate to one that it has, or fourcc to MJPG, which needs less of the USB"
                )

    def read(self) -> Frame | None:
        if not self._capture.grab():
            raise CameraError(f"{self.name} is lost: it was unplugged, or gave no frame for a second")
        return self._retrieve(self._stamp())

    def _stamp(self) -> int:
        now_ns = self._clocks.steady_ns()
        driver_ns = int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if 0 <= now_ns - driver_ns < OLDEST * 1e9:
            self.stamps = "arrival of the frame's first packet (driver)"
            return self._clocks.from_steady(driver_ns)
        self.stamps = "when the frame was fetched (the driver gives none)"
        return self._clocks.ros_ns()


class VideoFileSource(VideoCaptureSource):
    """A video file, at its own rate or the one asked for, again and again. live: whether it stands for a camera."""

    def __init__(
        self, path: str, wanted: Wanted, clocks: HostClocks, live: bool = False, open_capture: Open = cv2.VideoCapture
    ):
        super().__init__(wanted, clocks, open_capture)
        self._path, self.live = path, live
        self.name = f"video {path}"
        self.stamps = "when the frame was played"
        self._pacer = Pacer(30.0)

    def open(self) -> None:
        if not Path(self._path).is_file():
            raise CameraError(f"{self.name} is not there; give the path of a file")
        self._capture = self._open_capture(self._path)
        if not self._capture.isOpened():
            raise CameraError(f"{self.name} cannot be read as a video; MP4 (H.264, MPEG-4) and AVI (MJPEG) can be")
        rate = self._wanted.rate or self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < rate <= 1000:
            raise CameraError(f"{self.name} does not say its rate; set rate")
        self._pacer = Pacer(rate)
        if self.read() is None:
            raise CameraError(f"{self.name} holds no frame that can be read")

    def read(self) -> Frame | None:
        self._pacer.wait()
        if not self._capture.grab():
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            if not self._capture.grab():
                raise CameraError(f"{self.name} ended and cannot be played from its begin")
        return self._retrieve(self._clocks.ros_ns())
