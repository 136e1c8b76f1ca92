# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The language model's blocks, computed from the weights of transformers' Molmo2 by fewer operations, over keys and
values in one buffer. The same function: transformers' own forward is the plain path, and the test's oracle."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from .config import TextConfig
from .fused import Norm, Tables, turn, turning
from .offload import Streamed
from .quantized import product

BUCKET = 64    # tokens: prompts of about one length share an allocation, and a recorded step


def fits(config: TextConfig) -> bool:
    """Whether the blocks are of the kind that is fused; every released checkpoint's are."""
    return config.qk_norm_type == "qwen3" and not config.norm_after and config.hidden_act == "silu"


class Buffers:
    """Keys and values of all layers, (2, layers, kv_heads, capacity, head_dim); kept between calls, grown where a
    longer prompt needs it. What KVCache offers."""

    def __init__(self, config: TextConfig, device: torch.device, dtype: torch.dtype):
        self._config, self._device, self._dtype = config, device, dtype
        self.length = self.capacity = 0
        self.data = torch.empty(0)
        self.tables: Tables = (torch.empty(0), torch.empty(0))    # of RoPE, by position

    def reserve(self, capacity: int) -> None:
        """Empties the cache and makes sure that `capacity` tokens fit."""
        self.length = 0
        if capacity > self.capacity:
            config, self.capacity = self._config, -(-capacity // BUCKET) * BUCKET
            shape = (2, config.num_layers, config.num_kv_heads, self.capacity, config.head_dim)
            # Zeros: what is not used yet is read, and masked, where a step has a fixed shape.
            self.data = torch.zeros(shape, device=self._device, dtype=self._dtype)

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on."""
        self.length = length

    def wipe(self) -> None:
        """Leaves nothing in it that is no number: where it is masked, 0 x NaN would still be NaN."""
        self.length = 0
        self.data.zero_()

    def states(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per layer, keys (after q/k norm and RoPE) and values, each (1, kv_heads, S, head_dim)."""
        used = self.data[:, :, None, :, : self.length]
        return [(used[0, layer], used[1, layer]) for layer in range(self._config.num_layers)]


class _Block:
    """The products of one block, as few as can be."""

    def __init__(self, layer: Any, config: TextConfig, pinned: bool):
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = product([attention.q_proj, attention.k_proj, attention.v_proj], pinned)
        self.rise = product([mlp.gate_proj, mlp.up_proj], pinned)
        self.out, self.down = product([attention.o_proj], pinned), product([mlp.down_proj], pinned)
        self.before, self.between = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        query, key = attention.q_norm.weight, attention.k_norm.weight
        self.turned = torch.stack([query] * config.num_heads + [key] * config.num_kv_heads)

    # For weights that stay in main memory (offload.py), which are none of few bits.
    def weights(self) -> list[torch.Tensor]:
        return [made.keywords["weight"] for made in self._products().values()]

    def over(self, weights: Sequence[torch.Tensor]) -> _Block:
        other = copy(self)
        for (name, made), weight in zip(self._products().items(), weights, strict=True):
            bias = made.keywords["bias"]
            bias = None if bias is None else bias.to(weight.device)
            setattr(other, name, partial(functional.linear, weight=weight, bias=bias))
        return other

    def _products(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("qkv", "rise", "out", "down")}


class FusedLanguage:
    """The blocks of one network. Its parameters become views into what is joined here (fused.join). May be shared.
    offload: whether the weights are in main memory and stay there."""

    def __init__(self, language: Any, config: TextConfig, offload: bool = False):
        self.config = config
        self._last = language.norm.weight
        device, eps = self._last.device, config.norm_eps
        blocks = [_Block(layer, config, offload and device.type == "cuda") for layer in language.layers]
        self._blocks: Sequence[_Block] = Streamed(blocks, device) if offload else blocks
        self._norm, self._head_norm = Norm(config.hidden_size, eps, device), Norm(config.head_dim, eps, device)
        self._frequencies = language.rotary_emb_unscaled.inv_freq.float()

    def reserve(self, cache: Buffers, tokens: int) -> None:
        """Empties the cache and makes sure that `tokens` fit, and that RoPE's tables reach as far."""
        cache.reserve(tokens)
        if len(cache.tables[0]) < cache.capacity:
            index = torch.arange(cache.capacity, device=self._frequencies.device).float()
            angles = index[:, None] * self._frequencies
            cos, sin = turning(angles.cos(), angles.sin())
            cache.tables = cos[:, None].to(self._last.dtype), sin[:, None].to(self._last.dtype)

    def __call__(self, x: torch.Tensor, visible: torch.Tensor | None, cache: Buffers) -> torch.Tensor:
        """Embeddings (k, hidden) that follow what is in the cache -> hidden states (k, hidden).

        visible: bool (k, S), what each of them sees of the cache and the k tokens; None: everything, which is right
        for one token.
        """
        begin, end = cache.length, cache.length + len(x)
        if end > cache.capacity:
            raise RuntimeError(f"the key/value cache holds {cache.capacity} tokens, {end} were written")
        cos, sin = cache.tables
        tables, stored = (cos[begin:end], sin[begin:end]), cache.data[..., :end, :]
        fresh = stored[..., begin:, :]
        mask = None if visible is None else self._by_group(visible)
        for index, block in enumerate(self._blocks):
            keys, values = fresh[0, index], fresh[1, index]
            x = self._block(x, block, tables, (keys, values), (stored[0, index], stored[1, index]), None, mask)
        cache.length = end
        return self._norm(x) * self._last

    def at(self, x: torch.Tensor, position: torch.Tensor, reach: int, cache: Buffers) -> torch.Tensor:
        """The same for one token (1, hidden) whose position int64 (1,) is on the device, in operations whose shapes
        do not depend on it: over `reach` tokens of the cache, those behind it masked. cache.length is left alone."""
        cos, sin = cache.tables
        tables, stored = (cos[position], sin[position]), cache.data[..., :reach, :]
        visible = (torch.arange(reach, device=x.device) <= position)[None]
        mask = self._by_group(visible)
        for index, block in enumerate(self._blocks):
            pair = (stored[0, index], stored[1, index])
            x = self._block(x, block, tables, pair, pair, position, mask)
        return self._norm(x) * self._last

    def _by_group(self, visible: torch.Tensor) -> torch.Tensor:
        """bool (k, S) -> (groups * k, S): the queries that share a key's head are rows of one attention."""
        return visible.repeat(self.config.num_heads // self.config.num_kv_heads, 1)

    def _block(
        self,
        x: torch.Tensor,
        block: _Block,
        tables: Tables,
        written: tuple[torch.Tensor, torch.Tensor],
        read: tuple[torch.Tensor, torch.Tensor],
        position: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """written: where keys and values (kv_heads, k, head_dim) go, at `position` if any; read: all of them."""
        config, count = self.config, len(x)
        heads, kv_heads, width = config.num_heads, config.num_kv_heads, config.head_dim
        joined = block.qkv(self._norm(x) * block.before)
        joined = joined.view(count, heads + 2 * kv_heads, width)
        turned = turn(self._head_norm(joined[:, : heads + kv_heads]) * block.turned, tables)
        query, key, value = turned[:, :heads], turned[:, heads:], joined[:, heads + kv_heads :]
        for goal, fresh in zip(written, (key, value), strict=True):
            if position is None:
                goal.copy_(fresh.transpose(0, 1))
            else:
                goal.index_copy_(1, position, fresh.transpose(0, 1))
        groups = heads // kv_heads
        rows = query.view(count, kv_heads, groups, width).permute(1, 2, 0, 3)
        rows = rows.reshape(1, kv_heads, groups * count, width)
        mixed = functional.scaled_dot_product_attention(rows, read[0][None], read[1][None], attn_mask=mask)
        mixed = mixed.view(kv_heads, groups, count, width).permute(2, 0, 1, 3).reshape(count, heads * width)
        x = x + block.out(mixed)
        gate, up = block.rise(self._norm(x) * block.between).chunk(2, dim=-1)
        return x + block.down(functional.silu(gate) * up)
