# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the controller's objects speak of: chunks, refusals, paths."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Refusal(IntEnum):
    """Why a chunk was refused; the values are those of ControllerStatus.REFUSAL_*."""

    NONE = 0
    EPISODE = 1
    JOINTS = 2
    SHAPE = 3
    NOT_FINITE = 4
    TIMING = 5
    STAMP = 6
    PAST = 7
    OLDER = 8
    LIMITS = 9
    STEP = 10
    STATE = 11
    STALE = 12
    RESUME = 13


class ChunkRefused(Exception):
    """A chunk that must not be followed. The running one goes on."""

    def __init__(self, refusal: Refusal, text: str):
        super().__init__(text)
        self.refusal = refusal


@dataclass(frozen=True)
class Chunk:
    """An action chunk as it came. positions: float64, flat or (H, J) row-major by joint_names; stamp [s]."""

    chunk_id: int
    episode_id: str
    stamp: float
    dt: float
    first_offset: float
    horizon: int
    joint_names: tuple[str, ...]
    positions: np.ndarray


class Path:
    """Joint targets over time: a polyline through (time [s], position (J,)) knots, held before and after them."""

    def __init__(self, times: np.ndarray, positions: np.ndarray):
        self.times = np.asarray(times, dtype=np.float64)
        self.positions = np.asarray(positions, dtype=np.float64)
        if self.times.ndim != 1 or self.positions.shape[:1] != self.times.shape or (np.diff(self.times) <= 0).any():
            raise ValueError("a path needs increasing times and one position for each")

    @property
    def end(self) -> float:
        return float(self.times[-1])

    def sample(self, time: float) -> np.ndarray:
        """Position at a time, float64 (J,)."""
        times = self.times
        index = int(np.searchsorted(times, time, side="right"))
        if index == 0:
            return self.positions[0].copy()
        if index == len(times):
            return self.positions[-1].copy()
        share = (time - times[index - 1]) / (times[index] - times[index - 1])
        return self.positions[index - 1] + share * (self.positions[index] - self.positions[index - 1])

    def slope(self, time: float) -> np.ndarray:
        """Velocity along the path just after a time [unit/s], float64 (J,); 0 before the first, after the last knot."""
        index = int(np.searchsorted(self.times, time, side="right"))
        if index == 0 or index == len(self.times):
            return np.zeros(self.positions.shape[1])
        return (self.positions[index] - self.positions[index - 1]) / (self.times[index] - self.times[index - 1])
