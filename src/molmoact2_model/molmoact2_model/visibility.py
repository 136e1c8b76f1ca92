# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which tokens the action expert attends to."""

from __future__ import annotations

import numpy as np

from .config import ModelConfig


def visible_to_expert(ids: np.ndarray, config: ModelConfig) -> np.ndarray:
    """int64 (S,) -> bool (S,). A checkpoint trained for both action modes hides what spells discrete actions from the
    expert: ends of sequence (the first token and the user turn's end among them) and <action_start>...<action_end>."""
    visible = np.ones(ids.size, bool)
    if config.action_mode != "both":
        return visible
    visible &= ids != config.eos_token_id
    if config.action_tokens is not None:
        position = 0
        starts = np.flatnonzero(ids == config.action_tokens.start)
        ends = np.flatnonzero(ids == config.action_tokens.end)
        for start in starts:
            later = ends[(ends >= start) & (ends >= position)]
            if later.size == 0:
                visible[start:] = False
                break
            visible[start : later[0] + 1] = False
            position = int(later[0]) + 1
    return visible
