# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A depth map as a colour picture, a grey one, and points in front of the camera. Each says what its values are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from molmoact2_model.depth import CODE, METRES, DepthMap
from molmoact2_model.picture import scale_colours

from .draw import FAINT, PANEL, TEXT, Size, clipped, font, write_in_cells

FOOT = 30
GRID = 32             # a map of at most so many cells a side is shown as cells, a larger one smoothly
POINTS = 40           # points along each side of the cloud
PINHOLE = ("", "plumb_bob", "rational_polynomial")


@dataclass(frozen=True)
class Intrinsics:
    """A CameraInfo's pinhole: k (3, 3), d (n,), for images of width x height [px]."""

    width: int
    height: int
    k: np.ndarray
    d: np.ndarray

    @classmethod
    def of(cls, width: int, height: int, k: Sequence[float], d: Sequence[float], model: str) -> Intrinsics:
        """Errors: ValueError where the camera is not calibrated, or by a model that is not a pinhole's."""
        matrix = np.array(k, dtype=np.float64).reshape(3, 3)
        if width < 1 or height < 1 or not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            raise ValueError(f"camera_info has no calibration (size {width} x {height}, fx {matrix[0, 0]:g})")
        if model not in PINHOLE:
            raise ValueError(f"camera_info has distortion model {model!r}; known are plumb_bob and rational_polynomial")
        return cls(width, height, matrix, np.array(d, dtype=np.float64))

    def rays(self, side: int) -> np.ndarray:
        """Directions (side, side, 3) with z 1 through a grid over the whole image, row 0 at its top."""
        steps = (np.arange(side) + 0.5) / side
        u, v = np.meshgrid(steps * self.width, steps * self.height)
        pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
        distortion = self.d if self.d.size else np.zeros(5)
        flat = cv2.undistortPoints(pixels, self.k, distortion).reshape(side, side, 2)
        return np.concatenate([flat, np.ones((side, side, 1))], axis=-1)


def shades(depth: DepthMap) -> np.ndarray:
    """0 .. 1 for each value: near is 1; for codes the code itself over the largest."""
    return depth.shares() if depth.unit == CODE else 1.0 - depth.farness()


def grey(depth: DepthMap, size: Size) -> np.ndarray:
    """uint8 (height, width): near is white. An order only, whatever the unit."""
    return (resized(shades(depth), size) * 255).round().astype(np.uint8)


def resized(values: np.ndarray, size: Size) -> np.ndarray:
    """float32 (height, width) of the map's values; cells keep their edges."""
    smooth = max(values.shape) > GRID
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, method))


def colour(depth: DepthMap, size: Size) -> np.ndarray:
    """uint8 (height + FOOT, width, 3): the map over the size of the image, and below it what its colours mean."""
    width, height = size
    canvas = Image.new("RGB", (width, height + FOOT), PANEL)
    canvas.paste(Image.fromarray(scale_colours(resized(shades(depth), size))))
    if max(depth.values.shape) <= GRID and depth.unit in (CODE, METRES):
        form = "{:.0f}" if depth.unit == CODE else "{:.2f}"
        write_in_cells(canvas, size, depth.values, form, scale_colours(shades(depth)))
    _scale(canvas, depth, width, height)
    return np.asarray(canvas)


def words(depth: DepthMap) -> tuple[str, str, str]:
    """Labels: of the dark end of the scale, of the bright end, and what the values are."""
    low, high = depth.span
    if depth.unit == CODE:
        return f"{low:.0f}", f"{high:.0f}", f"not depth, but the {depth.source}"
    if depth.unit == METRES:
        return f"{high:.2f} m", f"{low:.2f} m", f"depth in metres ({depth.source})"
    return "far", "near", f"relative depth, no unit ({depth.source})"


def _scale(canvas: Image.Image, depth: DepthMap, width: int, top: int) -> None:
    draw, face, middle = ImageDraw.Draw(canvas), font(14), top + FOOT / 2
    dark, bright, meaning = words(depth)
    draw.text((10, middle), dark, FAINT, face, anchor="lm")
    x, bar = 18 + round(face.getlength(dark)), width // 5
    ramp = np.repeat(scale_colours(np.linspace(0, 1, bar))[None], 12, axis=0)
    canvas.paste(Image.fromarray(ramp), (x, round(middle) - 6))
    draw.text((x + bar + 8, middle), bright, FAINT, face, anchor="lm")
    x += bar + 26 + round(face.getlength(bright))
    draw.text((x, middle), clipped(meaning, face, width - x - 8), TEXT, face, anchor="lm")


def distances(depth: DepthMap, display: tuple[float, float]) -> np.ndarray:
    """Distance along the optical axis at which each value is shown [m]. Only metres are shown where they are: a
    relative map is spread over the display range (near, far); codes, which say nothing of distance, lie at its far end.
    """
    near, far = display
    if depth.unit == METRES:
        return depth.values
    if depth.unit == CODE:
        return np.full_like(depth.values, far)
    return near + depth.farness() * (far - near)


def points(depth: DepthMap, camera: Intrinsics, display: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Points in the camera's optical frame, float32 (N, 3) [m], and their colours, uint8 (N, 3).

    display: see `distances`.
    """
    rows, cols = ((np.arange(POINTS) + 0.5) * n / POINTS for n in depth.values.shape)
    pick = np.ix_(rows.astype(int), cols.astype(int))
    xyz = camera.rays(POINTS) * distances(depth, display)[pick][..., None]
    return xyz.reshape(-1, 3).astype(np.float32), scale_colours(shades(depth)[pick]).reshape(-1, 3)
