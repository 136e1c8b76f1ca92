# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One distance for each cell of a depth image.

The model's main image is squashed whole into its square, whatever its aspect; a cell is therefore an equal share of the
depth image's width and height, and a pixel belongs to the cell that its centre is in.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..errors import InputError

SIDE = 10
QUANTILE = 0.25
MEASURED_SHARE = 0.1
HOLES = "nearest_cell"


def rule(quantile: float) -> dict[str, Any]:
    """The rule in the words of a file. Errors: InputError for what is no share."""
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile is {quantile}, expected 0 (the nearest pixel of a cell) to 1 (the farthest)")
    return {"grid": [SIDE, SIDE], "quantile": quantile, "measured_share": MEASURED_SHARE, "holes": HOLES}


def cell_depths(image: np.ndarray, quantile: float = QUANTILE) -> np.ndarray | None:
    """The distance of each cell, uint16 (100,) in millimetres, row-major. None where no cell has one.

    image: uint16 (h, w), millimetres, 0 where nothing was measured. Errors: InputError for an image smaller than the
    grid.

    A cell's distance is that of one of its pixels: `quantile` of its measured pixels are nearer. A quarter, not the
    median, lets a thing show that fills a quarter of the cell; and unlike the nearest pixel it does not follow single
    wrong ones. A mean would name a distance at which there is nothing. A cell of which less than a tenth was measured
    is a hole, and takes the distance of the measured cell nearest to it in the grid; of several, the farthest: what a
    stereo camera cannot see lies in the shadow of something nearer.
    """
    if image.dtype != np.uint16 or image.ndim != 2 or min(image.shape) < SIDE:
        raise InputError(
            f"a depth image is {image.dtype} of shape {image.shape}, expected uint16 (h, w) of at least {SIDE} x {SIDE}"
        )
    cells, sizes = _cells(image.shape[0], image.shape[1])
    keys = cells + image.ravel()
    keys.sort()
    measured = sizes - np.bincount(cells[image.ravel() == 0] >> 16, minlength=SIDE**2)
    ends = np.cumsum(sizes)
    picked = ends - measured + (quantile * np.maximum(measured - 1, 0)).astype(np.int64)
    depths = (keys[np.minimum(picked, ends - 1)] & 0xFFFF).astype(np.uint16)
    return _without_holes(np.where(measured >= np.maximum(MEASURED_SHARE * sizes, 1), depths, 0).astype(np.uint16))


@cache
def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each pixel, in the upper 16 bits of uint32 (h * w,), and the pixels of each cell, (100,)."""
    row, col = (((np.arange(n) + 0.5) * SIDE / n).astype(np.uint32) for n in (height, width))
    cells = (row[:, None] * SIDE + col).ravel()
    return cells << np.uint32(16), np.bincount(cells, minlength=SIDE**2)


@cache
def _between() -> np.ndarray:
    """Squared distance in the grid from each cell to each, (100, 100)."""
    row, col = np.divmod(np.arange(SIDE**2), SIDE)
    return (row[:, None] - row) ** 2 + (col[:, None] - col) ** 2


def _without_holes(depths: np.ndarray) -> np.ndarray | None:
    there, holes = np.flatnonzero(depths), np.flatnonzero(depths == 0)
    if not there.size:
        return None
    if holes.size:
        apart = _between()[np.ix_(holes, there)]
        nearest = apart == apart.min(axis=1, keepdims=True)
        depths[holes] = np.where(nearest, depths[there], 0).max(axis=1)
    return depths
