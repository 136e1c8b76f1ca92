# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures and points as messages."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

COLOUR, GREY, METRES = "rgb8", "mono8", "32FC1"


def image_message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """pixels: uint8 (H, W, 3) for rgb8, uint8 (H, W) for mono8, float32 (H, W) for 32FC1."""
    pixels = np.ascontiguousarray(pixels)
    message = Image(
        header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=pixels.strides[0]
    )
    # rclpy copies an array.array at once and checks any other sequence byte by byte.
    message.data = array.array("B", pixels.tobytes())
    return message


def cloud_message(xyz: np.ndarray, colours: np.ndarray, header: Header) -> PointCloud2:
    """xyz: float32 (N, 3) [m]; colours: uint8 (N, 3), packed as displays expect it, in a float32 `rgb`."""
    red, green, blue = (colours[:, channel].astype(np.uint32) for channel in range(3))
    packed = (red << 16 | green << 8 | blue).view(np.float32)
    data = np.concatenate([xyz.astype("<f4"), packed[:, None].astype("<f4")], axis=1)
    fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(("x", "y", "z", "rgb"))
    ]
    message = PointCloud2(
        header=header, height=1, width=len(xyz), fields=fields, is_bigendian=False, point_step=16,
        row_step=16 * len(xyz), is_dense=True,
    )
    message.data = array.array("B", data.tobytes())
    return message
