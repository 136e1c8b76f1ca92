# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the controller's objects speak of: chunks and refusals."""

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
    WORKSPACE = 14
    PACE = 15
    PEER = 16


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
