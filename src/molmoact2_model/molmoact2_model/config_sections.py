# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The sections of a released config.json, each parsed and checked by itself. config.py puts them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError


class Section:
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


def token_id(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    if isinstance(value, list) and value:
        value = value[0]
    return Section({key: value}, "").integer(key, default)


def text_config(section: Section) -> TextConfig:
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


def vision_config(vit: Section, adapter: Section) -> VisionConfig:
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


def expert_config(raw: Mapping[str, Any], text: TextConfig) -> ExpertConfig:
    section = Section(raw.get("action_expert_config"), "action_expert_config")
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


def image_tokens(top: Section) -> ImageTokens:
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


def action_tokens(top: Section) -> ActionTokens | None:
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


def depth_config(top: Section) -> DepthConfig:
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
