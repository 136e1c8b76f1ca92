# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics as a dataset keeps them, of each episode and of all."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = 256
MOST_FRAMES, STRIDE = 100, 4    # of an episode's images that are counted, and of their rows and columns


def of_values(values: np.ndarray) -> dict[str, Any]:
    """values: (N, D) or (N,); each figure a list of D numbers, the count a list of one."""
    table = np.asarray(values).reshape(len(values), -1)
    # One column at a time: as float64 a large data set would need three times its memory.
    columns = [_of_column(table[:, column].astype(np.float64)) for column in range(table.shape[1])]
    return {name: [figures[name] for figures in columns] for name in columns[0]} | {"count": [len(table)]}


def _of_column(values: np.ndarray) -> dict[str, float]:
    figures = {"min": values.min(), "max": values.max(), "mean": values.mean(), "std": values.std()}
    figures |= dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())), strict=True))
    return {name: float(figure) for name, figure in figures.items()}


class Pixels:
    """How often each of the 256 levels comes in each colour of a camera's images; every so many pixels."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, LEVELS), np.int64)
        self.frames = 0

    def add(self, image: np.ndarray) -> None:
        """image: uint8 (H, W, 3)."""
        some = image[::STRIDE, ::STRIDE].reshape(-1, 3)
        for colour in range(3):
            self.counts[colour] += np.bincount(some[:, colour], minlength=LEVELS)
        self.frames += 1

    def merge(self, other: Pixels) -> None:
        self.counts += other.counts
        self.frames += other.frames

    def figures(self) -> dict[str, Any]:
        """Of levels as shares of white, 0 .. 1; each figure of shape (3, 1, 1), the count a list of one."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        shares = self.counts / self.counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0))
        sums = np.cumsum(shares, axis=1)
        found = {}
        for name, share in QUANTILES.items():
            found[name] = levels[[int(np.searchsorted(row, share - 1e-12)) for row in sums]]
        there = [np.flatnonzero(row) for row in self.counts]
        found |= {"min": levels[[row[0] for row in there]], "max": levels[[row[-1] for row in there]]}
        found |= {"mean": mean, "std": std}
        return {name: figure.reshape(3, 1, 1).tolist() for name, figure in found.items()} | {"count": [self.frames]}


def worth_counting(length: int) -> set[int]:
    """Which frames of an episode of so many have their images counted."""
    return set(np.linspace(0, length - 1, min(length, MOST_FRAMES)).round().astype(int).tolist())
