# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images as a data set keeps them: PNG of 16 bits, millimetres along the optical axis, 0 where nothing was
measured."""

from __future__ import annotations

import cv2
import numpy as np

from .layout import DatasetError

FARTHEST = 65535


def to_millimetres(metres: np.ndarray) -> np.ndarray:
    """float [m] -> uint16 [mm] of the same shape; what is not finite or not in front of the camera becomes 0."""
    seen = np.isfinite(metres) & (metres > 0)
    return np.where(seen, np.clip(np.round(np.where(seen, metres, 0) * 1000), 0, FARTHEST), 0).astype(np.uint16)


def encode_depth(image: np.ndarray) -> bytes:
    """uint16 (h, w) -> PNG. Errors: DatasetError."""
    if image.dtype != np.uint16 or image.ndim != 2:
        raise DatasetError(f"a depth image is {image.dtype} of shape {image.shape}, expected uint16 (h, w)")
    done, data = cv2.imencode(".png", image)
    if not done:
        raise DatasetError(f"a depth image of shape {image.shape} cannot be written as PNG")
    return bytes(data)


def decode_depth(data: bytes) -> np.ndarray:
    """The other way round. Errors: DatasetError."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise DatasetError("a depth image is not a PNG of 16 bits with one channel")
    return image
