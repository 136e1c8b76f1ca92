# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""RealSense cameras, and recordings of them, through librealsense's pipeline."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .clock import DeviceClock, HostClocks
from .source import READ_TIMEOUT, CameraError, Frame, Intrinsics, Source, Wanted

MM = 0.001                 # [m]
PATIENCE = 2               # pairs that are not of one moment are passed over before colour goes without depth
NEAR_NS = 1_000_000_000    # a stamp of the host's clock that is off by more is none
TO_EXPOSURE_US = 100_000   # longest plausible time from the middle of the exposure to the readout
# librealsense's names, as sensor_msgs/CameraInfo has them. D400 cameras call their colour model the inverse one, with
# coefficients that are all but zero: ROS has no name for it, and its own RealSense node says plumb_bob too.
DISTORTIONS = {
    "brown_conrady": "plumb_bob", "modified_brown_conrady": "plumb_bob", "inverse_brown_conrady": "plumb_bob",
    "none": "plumb_bob", "kannala_brandt4": "equidistant",
}


class RealSenseSource(Source):
    """A RealSense by its serial number: colour, and on request depth, aligned to the colour image.

    Its stamps are the device's: of the middle of the exposure where the device tells it (metadata), else of the
    readout. Stamps that librealsense has mapped to the host's clock are used as they are; those of the device's own
    clock are mapped here (DeviceClock). Depth carries the stamp of its colour image; colour goes without depth where
    there is none of its moment.

    serial: empty takes the only camera there is; playback_file: a recording that stands for the camera, looped.
    """

    live = True

    def __init__(
        self,
        serial: str,
        wanted: Wanted,
        clocks: HostClocks,
        depth: bool = False,
        playback_file: str = "",
        allow_usb2: bool = False,
    ):
        self._serial, self._wanted, self._clocks, self._depth = serial, wanted, clocks, depth
        self._playback_file, self._allow_usb2 = playback_file, allow_usb2
        self.name = f"RealSense {serial or '(any)'}" + (f", played from {playback_file}" if playback_file else "")
        self.stamps = "not known yet"
        self._rs: Any = None
        self._context: Any = None
        self._pipeline: Any = None
        self._align: Any = None
        self._to_mm = 1.0
        self._last_number = -1
        self._clock = DeviceClock()
        self._what = ""
        self._half_period = 0.0    # [ms]
        self._apart = 0            # pairs in a row that were not of one moment

    # --- opening ------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        self._rs = rs = _library()
        self._context = self._context or rs.context()
        pipeline = rs.pipeline(self._context)
        wrapper = rs.pipeline_wrapper(pipeline)
        try:
            device = self._chosen().resolve(wrapper).get_device()
            self._check(device)
            config = self._chosen()
            self._enable_streams(config, device)
            if not config.can_resolve(wrapper):
                raise CameraError(self._no_such_stream(device))
            profile = pipeline.start(config)
        except RuntimeError as error:
            raise error if isinstance(error, CameraError) else CameraError(explained(self.name, str(error))) from None
        self._pipeline, self._clock, self._last_number = pipeline, DeviceClock(), -1
        stream = profile.get_stream(rs.stream.color).as_video_stream_profile()
        self.intrinsics = _intrinsics(stream.get_intrinsics())
        self._half_period, self._apart = 500.0 / stream.fps(), 0
        self._align = rs.align(rs.stream.color) if self._depth else None
        if self._depth:
            self._to_mm = profile.get_device().first_depth_sensor().get_depth_scale() / MM

    def _chosen(self) -> Any:
        """A configuration that takes this camera. Errors: CameraError where it is not there."""
        rs = self._rs
        config = rs.config()
        if self._playback_file:
            if not Path(self._playback_file).is_file():
                raise CameraError(f"{self.name}: there is no such recording; give the path of a .db3 file")
            rs.config.enable_device_from_file(config, self._playback_file, repeat_playback=True)
            return config
        there = {d.get_info(rs.camera_info.serial_number): d.get_info(rs.camera_info.name)
                 for d in self._context.query_devices()}
        serial = self._serial or (next(iter(there)) if len(there) == 1 else "")
        if serial not in there:
            raise CameraError(f"{self.name} is not there; {_listed(there)}")
        config.enable_device(serial)
        return config

    def _check(self, device: Any) -> None:
        """Errors: CameraError for a recording of another camera, or a link that is too slow."""
        info = self._rs.camera_info

        def fact(key: Any) -> str:
            return device.get_info(key) if device.supports(key) else ""

        serial, usb = fact(info.serial_number), fact(info.usb_type_descriptor)
        if self._serial and serial != self._serial:
            raise CameraError(f"{self.name}: the recording is of camera {serial}; give that serial number, or none")
        played = f", played from {self._playback_file}" if self._playback_file else ""
        self.name = f"RealSense {serial} ({fact(info.name)}{', USB ' + usb if usb else ''}{played})"
        if usb.startswith("2") and not self._allow_usb2:
            raise CameraError(
                f"{self.name} is connected at the speed of USB 2; use a USB 3 cable and socket (blue, or marked SS), "
                "turn the plug over once, or set allow_usb2 for a small size at a low rate"
            )

    def _enable_streams(self, config: Any, device: Any) -> None:
        rs, wanted = self._rs, self._wanted
        rate = round(wanted.rate)
        config.enable_stream(rs.stream.color, wanted.width, wanted.height, rs.format.rgb8, rate)
        if self._depth:
            # Depth sensors have sizes of their own: the SDK chooses where there is no equal one.
            same = (wanted.width, wanted.height, rate) in _sizes(rs, device, rs.stream.depth)
            size = (wanted.width, wanted.height) if same else (0, 0)
            config.enable_stream(rs.stream.depth, *size, rs.format.z16, rate)

    def _no_such_stream(self, device: Any) -> str:
        rs, wanted = self._rs, self._wanted
        asked = f"{wanted.width} x {wanted.height} px at {wanted.rate:g} Hz" + (" with depth" if self._depth else "")
        sizes = ", ".join(f"{w} x {h} at {r}" for w, h, r in sorted(_sizes(rs, device, rs.stream.color)))
        return f"{self.name} does not give {asked}; colour it gives as {sizes}" + (
            f"; depth at {', '.join(sorted({str(r) for _, _, r in _sizes(rs, device, rs.stream.depth)}))} Hz"
            if self._depth else ""
        )

    # --- reading ------------------------------------------------------------------------------------------------------
    def read(self) -> Frame | None:
        try:
            there, frames = self._pipeline.try_wait_for_frames(round(READ_TIMEOUT * 1000))
            arrival_ns = self._clocks.steady_ns()
            if not there:
                return None
            colour = frames.get_color_frame()
            # The SDK gives a colour image again with each depth image that comes between two.
            if not colour or colour.get_frame_number() == self._last_number:
                return None
            depth = None
            if self._align is not None:
                if self._of_one_moment(colour, frames.get_depth_frame()):
                    depth = self._align.process(frames).get_depth_frame()
                elif self._apart <= PATIENCE:
                    return None
            self._last_number = colour.get_frame_number()
        except RuntimeError as error:
            raise CameraError(explained(self.name, str(error))) from None
        image = np.asanyarray(colour.get_data())
        self._wanted.check_size(self.name, image)
        millimetres = self._millimetres(np.asanyarray(depth.get_data())) if depth else None
        return Frame(image, "rgb8", self._stamp(colour, arrival_ns), millimetres, owner=(colour, depth))

    def _of_one_moment(self, colour: Any, depth: Any) -> bool:
        """Whether depth is of the colour image's moment and not of the one before or after it."""
        if depth and abs(depth.get_timestamp() - colour.get_timestamp()) <= self._half_period:
            self._apart = 0
            return True
        self._apart += 1
        return False

    def _millimetres(self, depth: np.ndarray) -> np.ndarray:
        """uint16 in units of the device to uint16 in mm; what is too far for it becomes the largest number."""
        if abs(self._to_mm - 1.0) < 1e-4:
            return depth
        return np.asarray(cv2.addWeighted(depth, self._to_mm, depth, 0.0, 0.0))

    def _stamp(self, frame: Any, arrival_ns: int) -> int:
        domain = self._rs.timestamp_domain
        device_ns = round(frame.get_timestamp() * 1e6) - self._before_readout_ns(frame)
        kind = frame.get_frame_timestamp_domain()
        if kind != domain.hardware_clock and abs(self._clocks.system_ns() - device_ns) < NEAR_NS:
            self.stamps = f"{self._what} on the host's clock (librealsense)"
            return self._clocks.from_system(device_ns)
        self.stamps = f"{self._what}, device clock mapped to ROS time, late by the least delay of transfer"
        return self._clocks.from_steady(self._clock.to_steady(device_ns, arrival_ns))

    def _before_readout_ns(self, frame: Any) -> int:
        """From the middle of the exposure to what the SDK stamps, which is the readout; 0 where it is not known."""
        value = self._rs.frame_metadata_value
        self._what = "readout"
        if not all(map(frame.supports_frame_metadata, (value.frame_timestamp, value.sensor_timestamp))):
            return 0
        late_us = frame.get_frame_metadata(value.frame_timestamp) - frame.get_frame_metadata(value.sensor_timestamp)
        if not 0 < late_us < TO_EXPOSURE_US:
            return 0
        self._what = "middle of the exposure"
        return late_us * 1000

    def close(self) -> None:
        pipeline, self._pipeline, self._align = self._pipeline, None, None
        if pipeline is not None:
            with contextlib.suppress(RuntimeError):    # the camera is gone
                pipeline.stop()


def explained(name: str, text: str) -> str:
    """What librealsense says, with the mend where it is known."""
    text = " ".join(text.split())
    if any(sign in text for sign in ("errno=16", "resource busy", "RS2_USB_STATUS_BUSY", "set power state")):
        return f"{name} is in use by another process; end it (`fuser -v /dev/video*` names it). librealsense: {text}"
    if any(sign in text for sign in ("errno=13", "Permission denied", "RS2_USB_STATUS_ACCESS", "Access denied")):
        return (
            f"{name} may not be opened by this user; install docker/udev/70-molmoact2-realsense.rules and plug it "
            f"in anew. librealsense: {text}"
        )
    if "enable_device_from_file" in text:
        return f"{name}: the recording cannot be read; make one with rs.recorder or realsense-viewer (.db3)"
    return f"{name}: librealsense says: {text}; unplug the camera, plug it in, and see `rs-enumerate-devices`"


def _library() -> Any:
    try:
        return importlib.import_module("pyrealsense2")
    except ImportError as error:
        raise CameraError(
            f"RealSense cameras need pyrealsense2, which cannot be imported ({error}); install it with "
            "`pip install pyrealsense2` and libusb with `apt-get install libusb-1.0-0`"
        ) from None


def _listed(there: dict[str, str]) -> str:
    if not there:
        return "no RealSense is on this machine: plug one in (USB 3), and see docker/udev for the right to open it"
    return "there are: " + ", ".join(f"{serial} ({name})" for serial, name in there.items()) + "; set serial to one"


def _sizes(rs: Any, device: Any, stream: Any) -> set[tuple[int, int, int]]:
    """Width, height [px] and rate [Hz] of the profiles of a stream."""
    profiles = [p for sensor in device.query_sensors() for p in sensor.get_stream_profiles()]
    videos = [p.as_video_stream_profile() for p in profiles if p.stream_type() == stream]
    return {(v.width(), v.height(), v.fps()) for v in videos}


def _intrinsics(of: Any) -> Intrinsics:
    fx, fy, cx, cy = of.fx, of.fy, of.ppx, of.ppy
    model = DISTORTIONS.get(str(of.model).removeprefix("distortion."), "plumb_bob")
    count = 4 if model == "equidistant" else 5
    return Intrinsics(
        of.width, of.height, model, tuple(of.coeffs[:count]),
        k=(fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0),
        r=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        p=(fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0),
    )
