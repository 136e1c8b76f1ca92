# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The released config.json and image processor settings, parsed and checked. No size or token id lives in code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class _Section:
    """A mapping of config.json that reports missing and ill-typed keys by their full name."""

    def __init__(self, values: Any, name: str) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"config.json: {name} is missing or not an object")
        self._values, self._name = values, name

    def get(self, key: str, default: Any = None) -> Any:
        value = self._values.get(key)
        return default if value is None else value

    def integer(self, key: str, default: int | None = None, minimum: int = 0) -> int:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise CheckpointError(
                f"config.json: {self._label(key)} is {value!r}, expected an integer >= {minimum}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise CheckpointError(f"config.json: {self._label(key)} is {value!r}, expected a finite number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        return bool(self.get(key, default))

    def must_be(self, key: str, wanted: Any, default: Any) -> None:
        value = self.get(key, default)
        if value != wanted:
            raise CheckpointError(
                f"config.json: {self._label(key)} is {value!r}; only {wanted!r} is supported by this engine"
            )

    def _label(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key


@dataclass(frozen=True)
class TextConfig:
    """The language model (released: Qwen3-4B's shape)."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    additional_vocab_size: int
    attention_bias: bool
    qk_norm_type: str
    norm_after: bool
    hidden_act: str
    norm_eps: float
    rope_theta: float
    rope_scaling_layers: tuple[int, ...] | None
    max_positions: int


@dataclass(frozen=True)
class VisionConfig:
    """The image transformer and the adapter that pools its patches. `num_layers` counts the layers that are
    built: none beyond the deepest one that `feature_layers` (non-negative, in order of concatenation)
    reads."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_act: str
    norm_eps: float
    image_size: tuple[int, int]
    patch_size: int
    num_positions: int
    feature_layers: tuple[int, ...]
    adapter: Mapping[str, Any]


@dataclass(frozen=True)
class ExpertConfig:
    """The flow-matching action expert; one block per language-model layer."""

    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_size: int
    timestep_embed_dim: int
    context_layer_norm: bool
    qk_norm: bool
    qk_norm_eps: float
    rope: bool
    causal_attn: bool


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching: steps at inference, and the training distribution of the flow time."""

    num_steps: int
    cutoff: float
    time_offset: float
    time_scale: float
    beta_alpha: float
    beta_beta: float


@dataclass(frozen=True)
class ImageTokens:
    """Token ids an image expands to, and all ids that count as image tokens for the bidirectional attention."""

    start: int
    patch: int
    end: int
    col: int | None
    all: tuple[int, ...]


@dataclass(frozen=True)
class StateTokens:
    start: int
    end: int
    first: int
    count: int


@dataclass(frozen=True)
class ActionTokens:
    output: int
    start: int
    end: int
    first: int
    count: int


@dataclass(frozen=True)
class DepthConfig:
    """Depth reasoning: `num_codes` cells per image, row-major, each one of `codebook_size` codes."""

    output: int
    start: int
    end: int
    first: int
    codebook_size: int
    num_codes: int
    gate: str  # "none", "single" or "per_layer"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns; one row of all codes where they form no square."""
        side = math.isqrt(self.num_codes)
        return (side, side) if side * side == self.num_codes else (1, self.num_codes)

    @property
    def is_square(self) -> bool:
        return math.isqrt(self.num_codes) ** 2 == self.num_codes


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
        top = _Section(raw, "")
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
        text = _text(_Section(raw.get("text_config"), "text_config"))
        eos = _token_id(raw, "eos_token_id")
        config = cls(
            raw=raw,
            text=text,
            vision=_vision(
                _Section(raw.get("vit_config"), "vit_config"),
                _Section(raw.get("adapter_config"), "adapter_config"),
            ),
            expert=_expert(raw, text) if top.flag("add_action_expert", True) else None,
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
            bos_token_id=_token_id(raw, "bos_token_id", eos),
            eos_token_id=eos,
            image_tokens=_image_tokens(top),
            state_tokens=StateTokens(
                start=top.integer("state_start_token_id"),
                end=top.integer("state_end_token_id"),
                first=top.integer("state_token_start_id"),
                count=top.integer("num_state_tokens", minimum=2),
            ),
            action_tokens=_action_tokens(top),
            depth=_depth(top) if top.flag("enable_depth_reasoning", False) else None,
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


def _token_id(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return _Section({key: value}, "").integer(key, default)


def _text(section: _Section) -> TextConfig:
    section.must_be("use_qk_norm", True, True)
    section.must_be("tie_word_embeddings", False, False)
    rope = section.get("rope_parameters", {})
    kind = rope.get("rope_type", "default") if isinstance(rope, Mapping) else "default"
    if kind != "default" or section.get("rope_scaling") is not None:
        raise CheckpointError(
            "config.json: text_config asks for scaled RoPE; only the default RoPE is supported"
        )
    layers = section.get("rope_scaling_layers")
    heads = section.integer("num_attention_heads", minimum=1)
    return TextConfig(
        hidden_size=section.integer("hidden_size", minimum=1),
        num_layers=section.integer("num_hidden_layers", minimum=1),
        num_heads=heads,
        num_kv_heads=section.integer("num_key_value_heads", heads, minimum=1),
        head_dim=section.integer("head_dim", minimum=1),
        intermediate_size=section.integer("intermediate_size", minimum=1),
        vocab_size=section.integer("vocab_size", minimum=1),
        additional_vocab_size=section.integer("additional_vocab_size", 128),
        attention_bias=section.flag("qkv_bias", False),
        qk_norm_type=str(section.get("qk_norm_type", "qwen3")),
        norm_after=section.flag("norm_after", False),
        hidden_act=str(section.get("hidden_act", "silu")),
        norm_eps=section.number("layer_norm_eps", 1e-6),
        rope_theta=float(section.get("rope_theta", rope.get("rope_theta", 1e6))),
        rope_scaling_layers=None if layers is None else tuple(layers),
        max_positions=section.integer("max_position_embeddings", minimum=1),
    )


def _vision(vit: _Section, adapter: _Section) -> VisionConfig:
    adapter.must_be("pooling_attention_mask", True, False)
    declared = vit.integer("num_hidden_layers", minimum=1)
    wanted = adapter.get("vit_layers", ())
    if not wanted or any(not isinstance(n, int) or not -declared <= n < declared for n in wanted):
        raise CheckpointError(
            f"config.json: adapter_config.vit_layers is {wanted!r}, expected layers of {declared}"
        )
    feature_layers = tuple(n % declared for n in wanted)
    size = vit.get("image_default_input_size", ())
    if len(size) != 2:
        raise CheckpointError(
            f"config.json: vit_config.image_default_input_size is {size!r}, expected [height, width]"
        )
    heads = vit.integer("num_attention_heads", minimum=1)
    return VisionConfig(
        hidden_size=vit.integer("hidden_size", minimum=1),
        intermediate_size=vit.integer("intermediate_size", minimum=1),
        num_layers=max(feature_layers) + 1,
        num_heads=heads,
        num_kv_heads=vit.integer("num_key_value_heads", heads, minimum=1),
        head_dim=vit.integer("head_dim", minimum=1),
        hidden_act=str(vit.get("hidden_act", "gelu_pytorch_tanh")),
        norm_eps=vit.number("layer_norm_eps", 1e-6),
        image_size=(int(size[0]), int(size[1])),
        patch_size=vit.integer("image_patch_size", minimum=1),
        num_positions=vit.integer("image_num_pos", minimum=1),
        feature_layers=feature_layers,
        adapter={
            "hidden_size": adapter.integer("hidden_size", minimum=1),
            "num_attention_heads": adapter.integer("num_attention_heads", minimum=1),
            "num_key_value_heads": adapter.integer("num_key_value_heads", minimum=1),
            "head_dim": adapter.integer("head_dim", minimum=1),
            "hidden_act": str(adapter.get("hidden_act", "silu")),
            "intermediate_size": adapter.integer("intermediate_size", minimum=1),
            "text_hidden_size": adapter.integer("text_hidden_size", minimum=1),
        },
    )


def _expert(raw: Mapping[str, Any], text: TextConfig) -> ExpertConfig:
    section = _Section(raw.get("action_expert_config"), "action_expert_config")
    hidden = section.integer("hidden_size", 1024, minimum=1)
    heads = section.integer("num_heads", 16, minimum=1)
    layers = section.integer("num_layers", text.num_layers, minimum=1)
    if hidden % heads or (hidden // heads) % 2:
        raise CheckpointError(
            f"config.json: action_expert_config: {hidden} is not {heads} heads of an even width"
        )
    if layers != text.num_layers:
        raise CheckpointError(
            f"config.json: action_expert_config.num_layers is {layers}, text_config has {text.num_layers}; "
            "each expert block reads one language-model layer"
        )
    multiple = section.integer("ffn_multiple_of", 256)
    mlp_size = int(hidden * section.number("mlp_ratio", 8 / 3))
    return ExpertConfig(
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        mlp_size=math.ceil(mlp_size / multiple) * multiple if multiple else mlp_size,
        timestep_embed_dim=section.integer("timestep_embed_dim", 256, minimum=2),
        context_layer_norm=section.flag("context_layer_norm", True),
        qk_norm=section.flag("qk_norm", True),
        qk_norm_eps=section.number("qk_norm_eps", 1e-6),
        rope=section.flag("rope", True),
        causal_attn=section.flag("causal_attn", False),
    )


def _image_tokens(top: _Section) -> ImageTokens:
    keys = (
        "image_col_id",
        "low_res_image_start_token_id",
        "image_low_res_id",
        "frame_start_token_id",
        "frame_end_token_id",
    )
    start, patch, end = (
        top.integer(k) for k in ("image_start_token_id", "image_patch_id", "image_end_token_id")
    )
    others = [top.get(key) for key in keys]
    return ImageTokens(
        start=start,
        patch=patch,
        end=end,
        col=others[0],
        all=tuple(sorted({start, patch, end} | {token for token in others if token is not None})),
    )


def _action_tokens(top: _Section) -> ActionTokens | None:
    if top.get("action_output_token_id") is None:
        raise CheckpointError(
            "config.json: action_output_token_id is missing; every MolmoAct2 prompt ends with it"
        )
    if top.get("action_token_start_id") is None or top.get("action_start_token_id") is None:
        return None
    return ActionTokens(
        output=top.integer("action_output_token_id"),
        start=top.integer("action_start_token_id"),
        end=top.integer("action_end_token_id"),
        first=top.integer("action_token_start_id"),
        count=top.integer("num_action_tokens", 2048, minimum=1),
    )


def _depth(top: _Section) -> DepthConfig:
    gate = "none"
    if top.flag("action_expert_depth_gate", False):
        gate = "per_layer" if top.flag("action_expert_depth_gate_per_layer", False) else "single"
    return DepthConfig(
        output=top.integer("depth_output_token_id"),
        start=top.integer("depth_start_token_id"),
        end=top.integer("depth_end_token_id"),
        first=top.integer("depth_token_start_id"),
        codebook_size=top.integer("num_depth_tokens", minimum=1),
        num_codes=top.integer("num_depth_codes", 100, minimum=1),
        gate=gate,
    )
