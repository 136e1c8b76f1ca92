# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reading the messages of cameras and joints, for the policy and `molmoact2 check` alike (needs cv_bridge)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from cv_bridge import CvBridge

BRIDGE = CvBridge()


class ImageError(ValueError):
    """An image message that cannot be read; the text says why."""


def stamp_ns(message: Any) -> int:
    """Stamp of a message's header [ns]."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def digest(values: np.ndarray) -> bytes:
    """BLAKE2b of an array's bytes, 16 bytes."""
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).digest()


def pixels_of(transport: str, message: Any) -> np.ndarray:
    """Pixels of an Image or CompressedImage (transport "raw" or "compressed"), uint8 (H, W, 3) RGB, to be read only:
    those of an rgb8 image lie in the message. Errors: ImageError."""
    try:
        if transport == "compressed":
            return BRIDGE.compressed_imgmsg_to_cv2(message, "rgb8")
        return BRIDGE.imgmsg_to_cv2(message, "passthrough" if message.encoding == "rgb8" else "rgb8")
    except Exception as error:    # a distribution's cv_bridge also lets TypeError and cv2.error through
        raise ImageError(str(error)) from error
