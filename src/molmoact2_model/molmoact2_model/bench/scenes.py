# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a benchmark shows the engine: no frame is ever the last one's, and a stated number of cells changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

SIZE = (480, 640)
NOISE = 2.0    # levels; far below what the rule of adaptive depth calls a change


@dataclass(frozen=True)
class Load:
    """What is asked: depth mode, and how many cells change from call to call ("adaptive"), or how many codes of the
    draft are wrong ("verified")."""

    depth: str
    changed: int = 0

    @property
    def label(self) -> str:
        if self.depth in ("off", "full"):
            return f"depth {self.depth}"
        return f"depth {self.depth}, {self.changed} changed"


@dataclass(frozen=True)
class View:
    """The inputs of one call."""

    images: list[np.ndarray]
    state: np.ndarray


def texture(random: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3): a smooth random texture, with the noise of a camera."""
    coarse = torch.from_numpy(random.standard_normal((1, 3, SIZE[0] // 32, SIZE[1] // 32)))
    smooth = functional.interpolate(coarse, SIZE, mode="bicubic", align_corners=False)[0]
    return noisy((120 + 50 * smooth.permute(1, 2, 0).numpy()).clip(0, 255).astype(np.uint8), random)


def noisy(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return (image + random.normal(0, NOISE, image.shape)).round().clip(0, 255).astype(np.uint8)


def views(cameras: int, state_dim: int, grid: tuple[int, int], changed: int, seed: int) -> tuple[View, View]:
    """Two views, to be shown in turn. All frames differ by noise, the main one in `changed` cells of `grid` by more."""
    random = np.random.default_rng(seed)
    first = [texture(random) for _ in range(cameras)]
    second = [noisy(image, random) for image in first]
    for cell in chosen(changed, grid, seed):
        row, column = divmod(int(cell), grid[1])
        y, x = (slice(index * size // count, (index + 1) * size // count)
                for index, size, count in ((row, SIZE[0], grid[0]), (column, SIZE[1], grid[1])))
        second[0][y, x] = 255 - second[0][y, x][::-1, ::-1]
    states = random.uniform(-0.5, 0.5, (2, state_dim)).astype(np.float32)
    return View(first, states[0]), View(second, states[1])


def chosen(count: int, grid: tuple[int, int], seed: int) -> np.ndarray:
    """Which cells: `count` of them, anywhere."""
    return np.random.default_rng(seed + 1).permutation(grid[0] * grid[1])[:count]


def wrong_draft(codes: np.ndarray, cells: np.ndarray, codebook: int, seed: int) -> np.ndarray:
    """`codes` with those of `cells` replaced by others."""
    draft = codes.copy()
    shift = np.random.default_rng(seed + 2).integers(1, codebook, cells.size)
    draft[cells] = (draft[cells] + shift) % codebook
    return draft
