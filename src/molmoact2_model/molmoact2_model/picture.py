# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of one depth pass: the main image with its refreshed cells framed, beside the codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from .config import DepthConfig

if TYPE_CHECKING:
    from .session import Trace

_GAP = 12


def code_colours(codebook_size: int) -> np.ndarray:
    """uint8 (codebook_size, 3): a perceptual scale from dark for code 0 to bright for the last. An order, not a
    distance: a code says how far only through the codebook it was trained with."""
    return scale_colours(np.linspace(0.0, 1.0, codebook_size))


def scale_colours(shares: np.ndarray) -> np.ndarray:
    """Colours on the same scale, uint8 (..., 3), for shares 0 .. 1 (...)."""
    return (matplotlib.colormaps["viridis"](shares)[..., :3] * 255).round().astype(np.uint8)


def depth_picture(main_image: np.ndarray, trace: Trace, depth: DepthConfig, height: int = 480) -> Image.Image:
    """main_image: uint8 (H, W, 3) of the call that `trace` is from. Returns both panels, each `height` pixels high."""
    rows, cols = depth.grid
    left = Image.fromarray(main_image)
    left = left.resize((max(1, round(left.width * height / left.height)), height), Image.Resampling.BILINEAR)
    tiles = code_colours(depth.codebook_size)[trace.depth_codes.reshape(rows, cols)]
    right = Image.fromarray(tiles).resize((height, height), Image.Resampling.NEAREST)
    refreshed = trace.refreshed.reshape(rows, cols)
    for panel in (left, right):
        _frame_cells(panel, refreshed)
    return side_by_side([left, right])


def side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    """Panels of one height from left to right."""
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    picture, place = Image.new("RGB", (width, panels[0].height), "white"), 0
    for panel in panels:
        picture.paste(panel, (place, 0))
        place += panel.width + _GAP
    return picture


def _frame_cells(panel: Image.Image, refreshed: np.ndarray) -> None:
    rows, cols = refreshed.shape
    draw = ImageDraw.Draw(panel)
    for row, col in np.argwhere(refreshed):
        x0, x1 = (round(edge * panel.width / cols) for edge in (col, col + 1))
        y0, y1 = (round(edge * panel.height / rows) for edge in (row, row + 1))
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline="black", width=1)
        draw.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline="white", width=2)
