# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy is loaded from, whatever layout its checkpoint has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .checkpoint import Reader, open_weights
from .config import ModelConfig
from .normalization import NormStats

Weights = Callable[[ExitStack], Mapping[str, Reader]]


@dataclass(frozen=True)
class Source:
    """files: folder of tokenizer and image settings. weights: opens the tensors, by released name, until the stack is
    left."""

    config: ModelConfig
    stats: NormStats
    files: Path
    weights: Weights


def released(folder: Path, raw: Mapping[str, Any]) -> Source:
    """The released layout. raw: its config.json. Errors: CheckpointError."""
    config = ModelConfig.from_dict(raw)
    stats = NormStats.from_file(
        folder / config.norm_stats_filename, config.max_action_dim, config.max_action_horizon
    )
    return Source(config, stats, folder, partial(open_weights, folder))
