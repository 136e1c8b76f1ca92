# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The released config.json, parsed and checked. No size or token id lives in code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config_sections import (
    ActionTokens,
    DepthConfig,
    ExpertConfig,
    FlowConfig,
    ImageTokens,
    Section,
    StateTokens,
    TextConfig,
    VisionConfig,
    action_tokens,
    depth_config,
    expert_config,
    image_tokens,
    text_config,
    token_id,
    vision_config,
)
from .errors import CheckpointError

MODEL_TYPE = "molmoact2"
ACTION_MODES = ("both", "continuous", "discrete")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; CheckpointError where the file is missing, unreadable, or holds something else."""
    if not path.is_file():
        raise CheckpointError(
            f"{path.name} is missing in {path.parent}; is this a MolmoAct2 checkpoint folder?"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


@dataclass(frozen=True)
class ModelConfig:
    """config.json of a MolmoAct2 checkpoint (spec section 2.2). `raw` is the file as read."""

    raw: Mapping[str, Any]
    text: TextConfig
    vision: VisionConfig
    expert: ExpertConfig | None
    flow: FlowConfig
    max_action_dim: int
    max_action_horizon: int
    n_obs_steps: int
    action_mode: str  # decides what the expert sees of a prompt (visibility.py)
    trained_mode: str  # which actions may be asked for
    mask_action_dim_padding: bool
    bos_token_id: int
    eos_token_id: int
    image_tokens: ImageTokens
    state_tokens: StateTokens
    action_tokens: ActionTokens | None
    depth: DepthConfig | None
    add_setup_tokens: bool
    add_control_tokens: bool
    norm_stats_filename: str

    @property
    def supports_continuous(self) -> bool:
        return self.expert is not None and self.trained_mode in ("both", "continuous")

    @property
    def supports_discrete(self) -> bool:
        return self.action_tokens is not None and self.trained_mode in ("both", "discrete")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """Parses and checks; CheckpointError names the key, what it is and what it must be."""
        top = Section(raw, "")
        if top.get("model_type") != MODEL_TYPE:
            raise CheckpointError(
                f"config.json: model_type is {top.get('model_type')!r}, expected {MODEL_TYPE!r}; "
                "this engine loads MolmoAct2 checkpoints only"
            )
        action_mode = top.get("action_mode", "both")
        if action_mode not in ACTION_MODES:
            raise CheckpointError(
                f"config.json: action_mode is {action_mode!r}, expected one of {list(ACTION_MODES)}"
            )
        top.must_be("state_format", "discrete", "discrete")
        text = text_config(Section(raw.get("text_config"), "text_config"))
        eos = token_id(raw, "eos_token_id")
        config = cls(
            raw=raw,
            text=text,
            vision=vision_config(
                Section(raw.get("vit_config"), "vit_config"),
                Section(raw.get("adapter_config"), "adapter_config"),
            ),
            expert=expert_config(raw, text) if top.flag("add_action_expert", True) else None,
            flow=FlowConfig(
                num_steps=top.integer("flow_matching_num_steps", 10, minimum=1),
                cutoff=top.number("flow_matching_cutoff", 1.0),
                time_offset=top.number("flow_matching_time_offset", 0.001),
                time_scale=top.number("flow_matching_time_scale", 0.999),
                beta_alpha=top.number("flow_matching_beta_alpha", 1.0),
                beta_beta=top.number("flow_matching_beta_beta", 1.5),
            ),
            max_action_dim=top.integer("max_action_dim", 32, minimum=1),
            max_action_horizon=top.integer("max_action_horizon", 30, minimum=1),
            n_obs_steps=top.integer("n_obs_steps", 30, minimum=1),
            action_mode=action_mode,
            trained_mode=action_mode,
            mask_action_dim_padding=top.flag("mask_action_dim_padding", True),
            bos_token_id=token_id(raw, "bos_token_id", eos),
            eos_token_id=eos,
            image_tokens=image_tokens(top),
            state_tokens=StateTokens(
                start=top.integer("state_start_token_id"),
                end=top.integer("state_end_token_id"),
                first=top.integer("state_token_start_id"),
                count=top.integer("num_state_tokens", minimum=2),
            ),
            action_tokens=action_tokens(top),
            depth=depth_config(top) if top.flag("enable_depth_reasoning", False) else None,
            add_setup_tokens=top.flag("add_setup_tokens", True),
            add_control_tokens=top.flag("add_control_tokens", True),
            norm_stats_filename=Path(str(top.get("norm_stats_filename", "norm_stats.json"))).name,
        )
        config._check_vocabulary()
        return config

    def _check_vocabulary(self) -> None:
        """Depth and action ids are predicted, so they need a row in the head; every id needs an embedding."""
        predicted = {"eos_token_id": self.eos_token_id}
        if self.action_tokens:
            predicted["action_start_token_id"] = self.action_tokens.start
            predicted["action_end_token_id"] = self.action_tokens.end
            predicted["action_token_start_id + num_action_tokens"] = (
                self.action_tokens.first + self.action_tokens.count - 1
            )
        if self.depth:
            predicted["depth_end_token_id"] = self.depth.end
            predicted["depth_token_start_id + num_depth_tokens"] = (
                self.depth.first + self.depth.codebook_size - 1
            )
        for name, token in predicted.items():
            if token >= self.text.vocab_size:
                raise CheckpointError(
                    f"config.json: {name} reaches {token}, beyond the {self.text.vocab_size} output rows"
                )
        embedded = self.text.vocab_size + self.text.additional_vocab_size
        for token in (self.bos_token_id, *self.image_tokens.all, self.state_tokens.first + self.state_tokens.count - 1):
            if token >= embedded:
                raise CheckpointError(f"config.json: token id {token} is beyond the {embedded} embeddings")
