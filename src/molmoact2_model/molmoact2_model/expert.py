# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The flow-matching action expert (spec section 4); flow.py samples with it. Module names are those of the released
weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from .config import ExpertConfig, ModelConfig

NORM_EPS = 1e-6
ROPE_BASE = 10_000.0
TIME_BASE = 10_000.0

KeyValues = Sequence[tuple[torch.Tensor, torch.Tensor]]


def rms_norm(x: torch.Tensor, eps: float = NORM_EPS) -> torch.Tensor:
    """RMS normalisation over the last dimension, in float32 or finer, without parameters."""
    full = x.to(torch.promote_types(x.dtype, torch.float32))
    return (full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def _modulate(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * (1 + scale) + shift


def _heads(x: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, T, heads * width) -> (B, heads, T, width)"""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _merge(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)


def rope_tables(
    length: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines (length, width / 2) for positions 0 .. length - 1."""
    half = width // 2
    frequencies = ROPE_BASE ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _rotate(x: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = tables
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class _TimeFeatures(nn.Module):
    """Sines and cosines of the flow time 0 (noise) .. 1 (data), float32 (B,) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        index = torch.arange(half, device=time.device, dtype=time.dtype)
        angles = time[:, None] * torch.exp(index * (-math.log(TIME_BASE) / max(half - 1, 1)))
        features = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return functional.pad(features, (0, self.width - 2 * half))


class _SelfAttention(nn.Module):
    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        query, key, value = (_heads(part, self.config.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        if self.config.qk_norm:
            query, key = rms_norm(query, self.config.qk_norm_eps), rms_norm(key, self.config.qk_norm_eps)
        if rope is not None:
            query, key = _rotate(query, rope), _rotate(key, rope)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.config.causal_attn)
        return self.out_proj(_merge(mixed))


class _CrossAttention(nn.Module):
    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        query = _heads(self.q_proj(x), self.config.num_heads)
        if self.config.qk_norm:
            query = rms_norm(query, self.config.qk_norm_eps)
        return self.out_proj(
            _merge(functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask))
        )


class _Mlp(nn.Module):
    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.mlp_size)
        self.gate_proj = nn.Linear(config.hidden_size, config.mlp_size)
        self.down_proj = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class _Modulation(nn.Module):
    """Conditioning (B, hidden) -> (parts, B, 1, hidden)."""

    def __init__(self, hidden_size: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(hidden_size, parts * hidden_size)

    def forward(self, conditioning: torch.Tensor) -> torch.Tensor:
        return torch.stack(self.linear(functional.silu(conditioning)).chunk(self.parts, dim=-1))[:, :, None]


class _Block(nn.Module):
    def __init__(self, config: ExpertConfig) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(config)
        self.cross_attn = _CrossAttention(config)
        self.mlp = _Mlp(config)
        self.modulation = _Modulation(config.hidden_size, 9)

    def forward(
        self,
        x: torch.Tensor,
        modulation: torch.Tensor,
        context: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        (
            shift_self,
            scale_self,
            gate_self,
            shift_cross,
            scale_cross,
            gate_cross,
            shift_mlp,
            scale_mlp,
            gate_mlp,
        ) = modulation
        x = x + gate_self * self.self_attn(_modulate(rms_norm(x), shift_self, scale_self), rope)
        x = x + gate_cross * self.cross_attn(_modulate(rms_norm(x), shift_cross, scale_cross), *context, mask)
        return x + gate_mlp * self.mlp(_modulate(rms_norm(x), shift_mlp, scale_mlp))


class _FinalLayer(nn.Module):
    def __init__(self, hidden_size: int, out_size: int) -> None:
        super().__init__()
        self.modulation = _Modulation(hidden_size, 2)
        self.linear = nn.Linear(hidden_size, out_size)

    def forward(self, x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        shift, scale = modulation
        return self.linear(_modulate(rms_norm(x), shift, scale))


@dataclass(frozen=True)
class Context:
    """What the expert attends to in one chunk: per layer keys and values (B, heads, S, width), and the
    additive mask (B, 1, 1, S) over the S tokens."""

    layers: KeyValues
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Modulations:
    """All that depends on the flow time alone: per block (9, B, 1, hidden), and the final layer's (2, B, 1, hidden)."""

    blocks: Sequence[torch.Tensor]
    final: torch.Tensor


class ActionExpert(nn.Module):
    """Predicts the velocity of a noisy action chunk, given the language model's keys and values layer by layer."""

    def __init__(self, config: ExpertConfig, kv_size: int, max_action_dim: int) -> None:
        super().__init__()
        self.config, hidden = config, config.hidden_size
        self.time_embed = nn.Sequential(
            _TimeFeatures(config.timestep_embed_dim),
            nn.Linear(config.timestep_embed_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
        )
        self.action_embed = nn.Linear(max_action_dim, hidden)
        self.context_k_proj = nn.Linear(kv_size, hidden, bias=False)
        self.context_v_proj = nn.Linear(kv_size, hidden, bias=False)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.final_layer = _FinalLayer(hidden, max_action_dim)

    @property
    def dtype(self) -> torch.dtype:
        return self.action_embed.weight.dtype

    def context(self, key_values: KeyValues, visible: torch.Tensor | None) -> Context:
        """Projects the language model's cache once per chunk.

        key_values: per layer, keys and values as the cache holds them (B, kv_heads, S, head_dim); visible:
        bool (B, S), the tokens the expert may attend to.
        """
        layers = []
        for keys, values in key_values:
            key_context = self._project(keys, self.context_k_proj)
            if self.config.qk_norm:
                key_context = rms_norm(key_context, self.config.qk_norm_eps)
            layers.append((key_context, self._project(values, self.context_v_proj)))
        mask = None
        if visible is not None:
            mask = (~visible)[:, None, None, :].to(self.dtype) * torch.finfo(self.dtype).min
        return Context(layers, mask)

    def _project(self, states: torch.Tensor, projection: nn.Linear) -> torch.Tensor:
        flat = projection(_merge(states))
        if self.config.context_layer_norm:
            flat = rms_norm(flat)
        return _heads(flat, self.config.num_heads)

    def modulations(self, time: torch.Tensor) -> Modulations:
        """time: float32 (B,), 0 for noise and 1 for data."""
        conditioning = self.time_embed[1:](self.time_embed[0](time).to(self.dtype))
        blocks = [block.modulation(conditioning) for block in cast("list[_Block]", self.blocks)]
        return Modulations(blocks, self.final_layer.modulation(conditioning))

    def rope(self, length: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        if not self.config.rope:
            return None
        weight = self.action_embed.weight
        return rope_tables(
            length, self.config.hidden_size // self.config.num_heads, weight.device, weight.dtype
        )

    def forward(
        self,
        actions: torch.Tensor,
        context: Context,
        modulations: Modulations,
        rope: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """actions (B, T, max_action_dim) in the model's range -> velocity of the same shape."""
        x = self.action_embed(actions)
        for block, modulation, layer in zip(self.blocks, modulations.blocks, context.layers, strict=True):
            x = block(x, modulation, layer, context.mask, rope)
        return self.final_layer(x, modulations.final)


class DepthGate(nn.Module):
    """One sigmoid gate from the mean value vector of the non-depth tokens (spec section 4.6)."""

    def __init__(self, kv_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, kv_size))
        self.bias = nn.Parameter(torch.empty(1))

    def forward(self, values: torch.Tensor, visible: torch.Tensor, is_depth: torch.Tensor) -> torch.Tensor:
        """values (B, kv_heads, S, head_dim) -> gate (B, 1, 1, 1) in 0..1."""
        pooled_over = visible & ~is_depth
        pooled_over = torch.where(pooled_over.any(-1, keepdim=True), pooled_over, visible)
        weights = pooled_over.to(values.dtype)[..., None]
        pooled = (_merge(values) * weights).sum(1) / weights.sum(1).clamp_min(1.0)
        gate = torch.sigmoid(functional.linear(pooled.to(self.weight.dtype), self.weight, self.bias))
        return gate.to(values.dtype)[:, :, None, None]


def depth_tokens(ids: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """int64 (B, S) -> bool (B, S): the codes, and the tokens around them. config: of a checkpoint with depth."""
    depth = config.depth
    assert depth is not None
    edges = torch.tensor([depth.output, depth.start, depth.end], device=ids.device)
    return torch.isin(ids, edges) | ((ids >= depth.first) & (ids < depth.first + depth.codebook_size))


def gated(
    key_values: KeyValues, gates: Sequence[DepthGate], visible: torch.Tensor, is_depth: torch.Tensor
) -> KeyValues:
    """Scales keys and values of the visible depth tokens, by one gate read from the last layer or by one per layer."""
    marked = is_depth & visible
    if len(gates) == 1:
        scales = [gates[0](key_values[-1][1], visible, marked)] * len(key_values)
    else:
        scales = [gate(values, visible, marked) for gate, (_, values) in zip(gates, key_values, strict=True)]
    result = []
    for scale, (keys, values) in zip(scales, key_values, strict=True):
        factor = torch.where(marked[:, None, :, None], scale, torch.ones_like(scale))
        result.append((keys * factor, values * factor))
    return result
