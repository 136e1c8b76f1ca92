# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Digests (SHA-256, in hex) of the files that a run is begun with, by which others at the same places are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from molmoact2_data.keep import parts_within

from ..fast import FILES as FAST_FILES
from ..fingerprints import fingerprint
from ..normalization import NormStats
from .recipe import Data


def digests(stats: NormStats, tag: str, codes: Mapping[str, Any], fast: str, weights: Path | None) -> dict[str, str]:
    """By what they are, empty for what a run has none of. tag: of the norm statistics, only its own count; codes: what
    depth codes mean (annotations.add_codebook); fast: folder of the FAST tokenizer; weights: folder of those that are
    begun with. Errors: CheckpointError."""
    return {
        "norm statistics": _of({"mode": stats.mode, "tag": dict(stats.metadata[tag])}),
        "depth codebook": _of(codes) if codes else "",
        "FAST tokenizer": fingerprint(Path(fast).expanduser(), FAST_FILES) if fast else "",
        "start weights": fingerprint(weights, ("*.safetensors",)) if weights else "",
    }


def amounts(data: Iterable[Data]) -> dict[str, str]:
    """How much of each data set is used, in words. Errors: DatasetError."""
    found = {}
    for one in data:
        _, parts = parts_within(Path(one.path).expanduser(), one.selection)
        episodes, frames = len({part.episode.index for part in parts}), sum(part.length for part in parts)
        found[one.path] = f"{episodes} episodes, {frames} frames in {len(parts)} parts"
    return found


def _of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
