# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Checks on camera frames that need numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import InputError

# A covered or unplugged camera delivers values of a few levels of noise; a bare dark scene still has some brighter pixels.
BLACK_LEVEL = 16
SATURATED_LEVEL = 250
FAULTY_SHARE = 0.99


def check_images(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the frames as contiguous arrays; InputError unless each one is uint8 (H, W, 3) RGB and there is one."""
    if isinstance(images, np.ndarray) or not isinstance(images, Sequence):
        raise InputError(f"images is a {type(images).__name__}, expected a list of uint8 (H, W, 3) RGB arrays")
    if not images:
        raise InputError("no image was given; the model needs at least the main camera's")
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise InputError(f"image {index} is {kind}, expected a numpy array of uint8")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"image {index} has shape {image.shape}, expected (height, width, 3) RGB")
    return [np.ascontiguousarray(image) for image in images]


def image_fault(image: np.ndarray) -> str:
    """Says whether a uint8 (H, W, 3) frame shows nothing: "black", "saturated", or "" for a usable frame.

    Black: in 99 % of the pixels no channel exceeds 16 of 255. Saturated: in 99 % every channel is at 250 or more. The
    remaining 1 % lets a hot pixel or an overlaid time stamp pass without hiding the fault.
    """
    pixels = image.shape[0] * image.shape[1]
    if np.count_nonzero(image.max(axis=2) <= BLACK_LEVEL) >= FAULTY_SHARE * pixels:
        return "black"
    if np.count_nonzero(image.min(axis=2) >= SATURATED_LEVEL) >= FAULTY_SHARE * pixels:
        return "saturated"
    return ""
