# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The action expert, computed from its own weights by fewer operations, for one chunk at a time (expert.py is the plain
path, and the test's oracle)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn import functional

from .expert import NORM_EPS, ActionExpert, KeyValues, Modulations, rope_tables
from .fused import Norm, Tables, join, turn, turning


@dataclass(frozen=True)
class FusedContext:
    """Keys and values (layers, heads, S, width) of the tokens that the expert may see; no others, unless there is a
    mask, bool (1, S), False for these."""

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor | None = None

    @property
    def layers(self) -> KeyValues:
        """Per layer (1, heads, S, width)."""
        return list(zip(self.keys.split(1), self.values.split(1), strict=True))


@dataclass(frozen=True)
class FusedModulations:
    """Per block nine rows (1, hidden), shift, scale + 1 and gate of self-attention, cross-attention and MLP; and the
    final layer's shift and scale + 1."""

    blocks: Sequence[Sequence[torch.Tensor]]
    final: tuple[torch.Tensor, torch.Tensor]


class FusedExpert:
    """One network's expert. Its parameters become views into what is joined here (fused.join). May be shared."""

    def __init__(self, expert: ActionExpert):
        self.expert, self.config = expert, expert.config
        self._rise = [join([block.mlp.gate_proj, block.mlp.up_proj]) for block in cast("list[Any]", expert.blocks)]
        device, hidden = expert.action_embed.weight.device, self.config.hidden_size
        self._width = hidden // self.config.num_heads
        self._norm = Norm(hidden, NORM_EPS, device)
        self._head_norm = Norm(self._width, self.config.qk_norm_eps, device)

    @property
    def dtype(self) -> torch.dtype:
        return self.expert.dtype

    def context(self, key_values: KeyValues, visible: torch.Tensor) -> FusedContext:
        """Projects the language model's cache of all layers at once. Arguments as of ActionExpert.context, B = 1."""
        expert, config = self.expert, self.config
        seen = torch.nonzero(visible[0])[:, 0]
        projected = []
        for kind, projection in enumerate((expert.context_k_proj, expert.context_v_proj)):
            states = torch.cat([pair[kind] for pair in key_values])    # (layers, kv_heads, S, head_dim)
            flat = projection(states[:, :, seen].transpose(1, 2).flatten(2))
            if config.context_layer_norm:
                flat = self._norm(flat)
            heads = flat.unflatten(-1, (config.num_heads, self._width))
            if kind == 0 and config.qk_norm:
                heads = self._head_norm(heads)
            # Contiguous: read once per flow step.
            projected.append(heads.transpose(1, 2).contiguous())
        return FusedContext(*projected)

    def modulations(self, time: torch.Tensor) -> FusedModulations:
        """time: float32 (1,), 0 for noise and 1 for data."""
        plain: Modulations = self.expert.modulations(time)
        blocks = []
        for rows in plain.blocks:
            parts = [row[0] for row in rows]
            for scale in (1, 4, 7):
                parts[scale] = 1 + parts[scale]
            blocks.append(parts)
        return FusedModulations(blocks, (plain.final[0, 0], 1 + plain.final[1, 0]))

    def rope(self, length: int) -> Tables | None:
        if not self.config.rope:
            return None
        weight = self.expert.action_embed.weight
        cos, sin = turning(*rope_tables(length, self._width, weight.device, weight.dtype))
        return cos[:, None, None], sin[:, None, None]

    def __call__(
        self, actions: torch.Tensor, context: FusedContext, modulations: FusedModulations, rope: Tables | None
    ) -> torch.Tensor:
        """actions (1, T, max_action_dim) in the model's range -> velocity of the same shape."""
        expert = self.expert
        x = expert.action_embed(actions[0])
        blocks = cast("list[Any]", expert.blocks)
        for block, rise, rows, layer in zip(blocks, self._rise, modulations.blocks, context.layers, strict=True):
            x = self._block(x, block, rise, rows, layer, context.mask, rope)
        shift, scale = modulations.final
        return expert.final_layer.linear(torch.addcmul(shift, self._norm(x), scale))[None]

    def _block(
        self,
        x: torch.Tensor,
        block: Any,
        rise: tuple[torch.Tensor, torch.Tensor | None],
        rows: Sequence[torch.Tensor],
        layer: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        rope: Tables | None,
    ) -> torch.Tensor:
        config, length = self.config, len(x)
        joined = block.self_attn.qkv(torch.addcmul(rows[0], self._norm(x), rows[1]))
        joined = joined.view(length, 3, config.num_heads, self._width)
        turned = joined[:, :2]
        if config.qk_norm:
            turned = self._head_norm(turned)
        if rope is not None:
            turned = turn(turned, rope)
        query, key, value = (part.transpose(0, 1)[None] for part in (turned[:, 0], turned[:, 1], joined[:, 2]))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=config.causal_attn)
        x = torch.addcmul(x, rows[2], block.self_attn.out_proj(mixed[0].transpose(0, 1).flatten(1)))

        query = block.cross_attn.q_proj(torch.addcmul(rows[3], self._norm(x), rows[4]))
        query = query.view(length, config.num_heads, self._width)
        if config.qk_norm:
            query = self._head_norm(query)
        mixed = functional.scaled_dot_product_attention(query.transpose(0, 1)[None], *layer, attn_mask=mask)
        x = torch.addcmul(x, rows[5], block.cross_attn.out_proj(mixed[0].transpose(0, 1).flatten(1)))

        gate, up = functional.linear(torch.addcmul(rows[6], self._norm(x), rows[7]), *rise).chunk(2, dim=-1)
        return torch.addcmul(x, rows[8], block.mlp.down_proj(functional.silu(gate) * up))
