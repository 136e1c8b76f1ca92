# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a camera node is told, checked; and the source that it then reads."""

from __future__ import annotations

from dataclasses import dataclass

from molmoact2_contract import Contract

from .capture import UvcSource, VideoFileSource
from .clock import HostClocks
from .images import ImageFolderSource
from .realsense import RealSenseSource
from .source import CameraError, Source, Wanted

KINDS = ("realsense", "uvc", "video", "images")
FROZEN_AFTER = 1.0    # where no contract says it [s]


@dataclass(frozen=True)
class Settings:
    """Of one camera. Lengths in px, rates in Hz, times in s; empty texts and zeros: not given."""

    camera: str
    kind: str
    serial: str = ""
    path: str = ""
    playback_file: str = ""
    width: int = 640
    height: int = 480
    rate: float = 30.0
    fourcc: str = ""
    depth: bool = False
    allow_usb2: bool = False
    calibration: str = ""
    frame_id: str = ""
    frozen_after: float = -1.0
    simulation: bool = False

    def __post_init__(self) -> None:
        if not self.camera:
            raise CameraError("parameter camera is empty; name the camera, as the contract names it")
        if self.kind not in KINDS:
            raise CameraError(f"camera {self.camera}: kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if self.kind != "realsense":
            self._refuse("realsense", serial=self.serial, depth=self.depth, allow_usb2=self.allow_usb2)
        if self.kind != "uvc":
            self._refuse("uvc", fourcc=self.fourcc)
        if self.kind in ("video", "images"):
            self._refuse("realsense or uvc", playback_file=self.playback_file)
        if self.kind == "realsense":
            self._refuse("uvc, video or images", path=self.path)
        elif not (self.path or self.playback_file):
            raise CameraError(f"camera {self.camera}: path is empty; give the device's path or name, or the file")
        if self.fourcc and len(self.fourcc) != 4:
            raise CameraError(f"camera {self.camera}: fourcc is {self.fourcc!r}; it has four letters, such as MJPG")

    def _refuse(self, kinds: str, **values: object) -> None:
        for name, value in values.items():
            if value:
                raise CameraError(f"camera {self.camera}: {name} is for cameras of kind {kinds}, not {self.kind}")

    def source(self, clocks: HostClocks) -> Source:
        wanted = Wanted(self.width, self.height, self.rate)
        if self.kind == "realsense":
            return RealSenseSource(
                self.serial, wanted, clocks, depth=self.depth, playback_file=self.playback_file,
                allow_usb2=self.allow_usb2,
            )
        if self.kind == "images":
            return ImageFolderSource(self.path, wanted, clocks)
        if self.kind == "uvc" and not self.playback_file:
            return UvcSource(self.path, wanted, clocks, fourcc=self.fourcc)
        return VideoFileSource(self.playback_file or self.path, wanted, clocks, live=self.kind == "uvc")

    def frozen_limit(self, source: Source, contract: Contract | None) -> float:
        """Seconds of equal bytes after which the camera counts as frozen; 0: not checked.

        Of this camera's parameter, else of its contract. Files may show one image for ever, and a quiet scene of a
        simulation does.
        """
        if not source.live or self.simulation:
            return 0.0
        if self.frozen_after >= 0:
            return self.frozen_after
        if contract is not None:
            return contract.cameras[self.camera].frozen_after or 0.0
        return FROZEN_AFTER


@dataclass(frozen=True)
class Names:
    """Topics and frame of a camera: those of the contract, else below the camera's name."""

    image: str
    info: str
    depth: str
    depth_info: str
    frame_id: str
    compressed: bool

    @classmethod
    def of(cls, camera: str, contract: Contract | None, frame_id: str = "") -> Names:
        """Errors: CameraError for a camera that the contract does not have, or another frame than the contract's."""
        depth, depth_info = f"{camera}/depth/image_raw", f"{camera}/depth/camera_info"
        if contract is None:
            frame_id = frame_id or f"{camera}_optical_frame"
            return cls(f"{camera}/image_raw", f"{camera}/camera_info", depth, depth_info, frame_id, False)
        if camera not in contract.cameras:
            raise CameraError(
                f"the contract of {contract.embodiment} has no camera {camera!r}; it has {', '.join(contract.cameras)}"
            )
        known = contract.cameras[camera]
        if frame_id not in ("", known.frame_id):
            text = f"frame_id is {frame_id!r}, but {known.frame_id!r} in the contract; leave it out"
            raise CameraError(f"camera {camera}: {text}")
        compressed = known.transport == "compressed"
        return cls(known.topic, known.info_topic, depth, depth_info, known.frame_id, compressed)
