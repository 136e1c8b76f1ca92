# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A codebook of distances, fitted to the cells of depth images.

The entries are those of 1-D k-means, which keeps the squared error small: they stand close where there is much data,
and a few stand in the gaps between, so that a distance that comes up later is not far from any. They ascend: a larger
code is farther.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..depth import FARTHER, METRES, Codebook
from ..errors import InputError

ENTRIES = 128
ROUNDS = 300
IN_GAPS = 0.02    # share of the entries that stand where k-means found no data to begin with
BIN = 4    # millimetres in which data are counted to begin with
LEVELS = 65536    # millimetres in a depth image


class DepthCounts:
    """How often each distance was seen, to the millimetre; its size does not grow."""

    def __init__(self) -> None:
        self.counts = np.zeros(LEVELS, np.int64)

    def add(self, depths: np.ndarray) -> None:
        """depths: uint16, millimetres."""
        self.counts += np.bincount(depths, minlength=LEVELS)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """The distances that were seen [mm], ascending, and how often."""
        depths = np.flatnonzero(self.counts)
        return depths, self.counts[depths]


@dataclass(frozen=True)
class CodingError:
    """How far a distance is from its code's, over all cells that were counted [mm]."""

    mean: float
    p95: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} mm mean, {self.p95:.1f} mm at 95 %, {self.largest:.1f} mm at most"


def fit(seen: DepthCounts, entries: int = ENTRIES, farthest: float = np.inf) -> Codebook:
    """A codebook in metres, strictly ascending. farthest [m]: what is beyond counts as that far.

    Errors: InputError where there is nothing to tell apart.
    """
    depths, counts = seen.table()
    depths = np.minimum(depths, farthest * 1000.0)
    if not depths.size or depths[0] == depths[-1]:
        found = f"every cell is {depths[0] / 1000:.3f} m away" if depths.size else "no cell was measured"
        raise InputError(f"a codebook cannot be fitted: {found}; expected depth images of scenes with near and far")
    levels = _begin(depths, counts, entries)
    for _ in range(ROUNDS):
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, depths)
        weight = np.bincount(nearest, counts, entries)
        sums = np.bincount(nearest, counts * depths, entries)
        moved = np.where(weight > 0, sums / np.maximum(weight, 1), levels)
        done = np.abs(moved - levels).max() < 1e-3
        levels = moved
        if done:
            break
    return Codebook((levels / 1000).astype(np.float32), METRES, FARTHER, f"fitted to {int(counts.sum())} cells")


def _begin(depths: np.ndarray, counts: np.ndarray, entries: int) -> np.ndarray:
    """Entries as dense as the cube root of the data, which is where the least squared error has them [mm]."""
    bins = max(8 * entries, int((depths[-1] - depths[0]) / BIN))
    edges = np.linspace(depths[0], depths[-1], bins + 1)
    density = np.cbrt(np.histogram(depths, edges, weights=counts)[0])
    density += IN_GAPS * density.mean()
    share = np.concatenate([[0.0], np.cumsum(density)])
    return np.interp((np.arange(entries) + 0.5) / entries, share / share[-1], edges)


def encode(depths: np.ndarray, codebook: Codebook) -> np.ndarray:
    """The code of the entry nearest to each distance, int16 of the same shape. depths: uint16, millimetres."""
    entries = codebook.values.astype(np.float64) * 1000
    return np.abs(depths[..., None] - entries).argmin(axis=-1).astype(np.int16)


def coding_error(seen: DepthCounts, codebook: Codebook) -> CodingError:
    """Errors: InputError where nothing was counted."""
    depths, counts = seen.table()
    if not depths.size:
        raise InputError("no cell was measured, so there is no error of coding")
    entries = codebook.values.astype(np.float64) * 1000
    errors = np.concatenate(
        [np.abs(part[:, None] - entries).min(axis=1) for part in np.array_split(depths, -(-depths.size // 4096))]
    )
    order = np.argsort(errors)
    place = np.searchsorted(np.cumsum(counts[order]), 0.95 * counts.sum())
    return CodingError(float(errors @ counts / counts.sum()), float(errors[order[place]]), float(errors.max()))
