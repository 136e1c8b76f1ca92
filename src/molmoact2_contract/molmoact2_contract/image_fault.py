# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's image shows nothing: one judgement for the model, the policy and `molmoact2 check`."""

from __future__ import annotations

import numpy as np

# A covered or unplugged camera delivers values of a few levels of noise; a bare dark scene still has some
# brighter pixels.
BLACK_LEVEL = 16
SATURATED_LEVEL = 250
FAULTY_SHARE = 0.99
LOOKED_AT_FIRST = 16  # every so many rows


def image_fault(image: np.ndarray) -> str:
    """Says whether a uint8 (H, W, 3) frame shows nothing: "black", "saturated", or "" for a usable frame.

    Black: in 99 % of the pixels no channel exceeds 16 of 255. Saturated: in 99 % every channel is at 250 or
    more. The remaining 1 % lets a hot pixel or an overlaid time stamp pass without hiding the fault.
    """
    size = image.shape[0] * image.shape[1]
    # A few rows of most frames already show more than a fault allows in all of them.
    return _fault(image[::LOOKED_AT_FIRST], size) and _fault(image, size)


def _fault(rows: np.ndarray, size: int) -> str:
    """The fault of a frame of `size` pixels of which only these rows are known; "" where none is possible any more."""
    red, green, blue = rows[..., 0], rows[..., 1], rows[..., 2]
    needed = FAULTY_SHARE * size
    if size - np.count_nonzero(np.maximum(np.maximum(red, green), blue) > BLACK_LEVEL) >= needed:
        return "black"
    if size - np.count_nonzero(np.minimum(np.minimum(red, green), blue) < SATURATED_LEVEL) >= needed:
        return "saturated"
    return ""
