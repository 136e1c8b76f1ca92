# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Frames as ROS messages."""

from __future__ import annotations

import array
from collections.abc import Mapping

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .source import Frame, Intrinsics


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def image_message(pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str) -> Image:
    """pixels: (H, W[, C]); what they mean is said by the encoding. Copies them once."""
    pixels = np.ascontiguousarray(pixels)
    message = Image(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels.nbytes // pixels.shape[0]
    )
    message.header.stamp, message.header.frame_id = time_message(stamp_ns), frame_id
    # rclpy copies an array.array at once and checks any other sequence byte by byte.
    message.data = array.array("B")
    message.data.frombytes(pixels.reshape(-1).view(np.uint8).data)
    return message


def compressed_message(frame: Frame, quality: int, frame_id: str) -> CompressedImage:
    """quality: of the JPEG, 1 .. 100."""
    bgr = frame.colour if frame.encoding == "bgr8" else cv2.cvtColor(frame.colour, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = CompressedImage(format="bgr8; jpeg compressed bgr8")
    message.header.stamp, message.header.frame_id = time_message(frame.stamp_ns), frame_id
    message.data = array.array("B")
    message.data.frombytes(data.data)
    return message


def info_message(intrinsics: Intrinsics | None, width: int, height: int, stamp_ns: int, frame_id: str) -> CameraInfo:
    """Without intrinsics only the size: zeros in k are ROS's way to say that a camera is not calibrated."""
    info = CameraInfo(width=width, height=height)
    info.header.stamp, info.header.frame_id = time_message(stamp_ns), frame_id
    if intrinsics is not None:
        info.distortion_model, info.d = intrinsics.distortion_model, list(intrinsics.d)
        info.k, info.r, info.p = intrinsics.k, intrinsics.r, intrinsics.p
    return info


def diagnostics(stamp: Time, level: bytes, name: str, text: str, values: Mapping[str, str]) -> DiagnosticArray:
    """level: of DiagnosticStatus."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    array_ = DiagnosticArray(status=[DiagnosticStatus(level=level, name=name, message=text, values=pairs)])
    array_.header.stamp = stamp
    return array_
