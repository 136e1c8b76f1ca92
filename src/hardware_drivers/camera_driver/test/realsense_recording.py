# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A double of a RealSense: a recording in librealsense's own format, made by its software device and its recorder.

Frame k has the red value 20 + 2 k everywhere, in its left half also the green value 100, and the depth 500 + 10 k mm.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyrealsense2 as rs

SERIAL = "042222070001"
WIDTH, HEIGHT, RATE = 160, 120, 30
FOCAL = 120.0


def colour(k: int) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 20 + 2 * k
    image[:, : WIDTH // 2, 1] = 100
    return image


def depth_mm(k: int) -> int:
    return 500 + 10 * k


def record(
    path: Path, frames: int = 30, usb: str = "3.2", depth_units: float = 0.001, frozen: bool = False,
    device_ms: float = 5000.0, domain: rs.timestamp_domain = rs.timestamp_domain.hardware_clock,
    metadata_us: tuple[int, int] | None = None, depth_late_ms: float = 0.0,
) -> Path:
    """Writes a recording of `frames` frames. device_ms: the device's clock at the first; frozen: all show the first;
    metadata_us: the device's time of readout and of the middle of exposure, of every frame; depth_late_ms: of depth
    images after the colour images."""
    device = rs.software_device()
    facts = {
        rs.camera_info.name: "Intel RealSense D405", rs.camera_info.serial_number: SERIAL,
        rs.camera_info.product_line: "D400", rs.camera_info.usb_type_descriptor: usb,
        rs.camera_info.firmware_version: "5.16.0.1", rs.camera_info.product_id: "0B5B",
    }
    for key, value in facts.items():
        device.register_info(key, value)
    sensors = device.add_sensor("Stereo Module"), device.add_sensor("RGB Camera")
    streams = (
        (rs.stream.depth, 0, 2, rs.format.z16),
        (rs.stream.color, 1, 3, rs.format.rgb8),
    )
    profiles = [
        sensor.add_video_stream(_stream(kind, uid, bpp, fmt))
        for sensor, (kind, uid, bpp, fmt) in zip(sensors, streams, strict=True)
    ]
    sensors[0].add_read_only_option(rs.option.depth_units, depth_units)
    same = rs.extrinsics()
    same.rotation, same.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
    profiles[0].register_extrinsics_to(profiles[1], same)
    profiles[1].register_extrinsics_to(profiles[0], same)
    device.create_matcher(rs.matchers.default)

    recorder = rs.recorder(str(path), device)
    syncer = rs.syncer()
    recorded = recorder.query_sensors()
    for sensor in recorded:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(syncer)
    keep = []    # the SDK reads the pixels later
    for k in range(frames):
        shown = 0 if frozen else k
        depth = np.full((HEIGHT, WIDTH), round(depth_mm(shown) / 1000 / depth_units), np.uint16)
        for sensor, profile, pixels, bpp in zip(sensors, profiles, (depth, colour(shown)), (2, 3), strict=True):
            if metadata_us is not None:
                sensor.set_metadata(rs.frame_metadata_value.frame_timestamp, metadata_us[0])
                sensor.set_metadata(rs.frame_metadata_value.sensor_timestamp, metadata_us[1])
            frame = rs.software_video_frame()
            frame.stride, frame.bpp, frame.pixels = WIDTH * bpp, bpp, pixels
            frame.timestamp, frame.domain = device_ms + k * 1000 / RATE + depth_late_ms * (bpp == 2), domain
            frame.frame_number, frame.profile = k, profile.as_video_stream_profile()
            if bpp == 2:
                frame.depth_units = depth_units
            sensor.on_video_frame(frame)
            keep.append(pixels)
        time.sleep(1 / RATE)    # a recording is played at the speed at which it was made
    for sensor in recorded:
        sensor.stop()
        sensor.close()
    del recorder
    return path


def _stream(kind: rs.stream, uid: int, bpp: int, fmt: rs.format) -> rs.video_stream:
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = WIDTH, HEIGHT
    intrinsics.ppx, intrinsics.ppy, intrinsics.fx, intrinsics.fy = WIDTH / 2, HEIGHT / 2, FOCAL, FOCAL
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.1, -0.2, 0.001, 0.002, 0.05]
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, fmt, bpp
    stream.width, stream.height, stream.fps, stream.intrinsics = WIDTH, HEIGHT, RATE, intrinsics
    return stream
