# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a controller counts and remembers, to be told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .chunk import Refusal


@dataclass
class Counters:
    """Since the process began."""

    accepted: int = 0
    refused: int = 0
    ticks: int = 0
    missed: int = 0


@dataclass
class LastChunk:
    """What is known of the chunk last accepted and of the one last refused."""

    consumed: int = 0
    seam_jump: float = 0.0
    latency: float = 0.0
    refusal: Refusal = Refusal.NONE
    refused_id: int = 0
    refusal_text: str = ""


@dataclass
class Announced:
    """What the policy last said of itself; `steady` is when [s]."""

    process_id: str = ""
    episode_id: str = ""
    steady: float = -math.inf
