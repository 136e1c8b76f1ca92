# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The language and vision part: transformers' own Molmo2, built from our configuration, and the cache it writes to."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Molmo2ForConditionalGeneration
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.models.molmo2.configuration_molmo2 import Molmo2Config
from transformers.models.molmo2.modeling_molmo2 import Molmo2RotaryEmbedding

from .config import ModelConfig


def molmo2_config(config: ModelConfig) -> Molmo2Config:
    """The same architecture in transformers' own terms (spec section 12.3)."""
    text, vision = config.text, config.vision
    text_config = {
        "hidden_size": text.hidden_size,
        "num_attention_heads": text.num_heads,
        "num_key_value_heads": text.num_kv_heads,
        "head_dim": text.head_dim,
        "vocab_size": text.vocab_size,
        "additional_vocab_size": text.additional_vocab_size,
        "attention_bias": text.attention_bias,
        "qk_norm_type": text.qk_norm_type,
        "num_hidden_layers": text.num_layers,
        "intermediate_size": text.intermediate_size,
        "hidden_act": text.hidden_act,
        "max_position_embeddings": text.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
        "rope_scaling_layers": None if text.rope_scaling_layers is None else list(text.rope_scaling_layers),
        "rms_norm_eps": text.norm_eps,
        "norm_after": text.norm_after,
    }
    vision_config = {
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "num_hidden_layers": vision.num_layers,
        "num_attention_heads": vision.num_heads,
        "num_key_value_heads": vision.num_kv_heads,
        "head_dim": vision.head_dim,
        "hidden_act": vision.hidden_act,
        "layer_norm_eps": vision.norm_eps,
        "image_size": list(vision.image_size),
        "patch_size": vision.patch_size,
        "num_position_embeddings": vision.num_positions,
    }
    adapter_config = {**vision.adapter, "vision_feature_layer": list(vision.feature_layers)}
    return Molmo2Config(
        text_config=text_config,
        vision_config=vision_config,
        adapter_config=adapter_config,
        image_start_token_id=config.image_tokens.start,
        image_end_token_id=config.image_tokens.end,
        image_patch_id=config.image_tokens.patch,
        attn_implementation="sdpa",  # type: ignore[call-arg]  # taken by every transformers configuration
    )


def build_vlm(config: ModelConfig, device: torch.device) -> Molmo2ForConditionalGeneration:
    """Builds the network with parameters on the meta device, to be filled by the loader; RoPE tables are real."""
    released = molmo2_config(config)
    with torch.device("meta"):
        vlm = Molmo2ForConditionalGeneration(released)
    language: Any = vlm.model.language_model
    text_config: Any = released.text_config
    language.rotary_emb = Molmo2RotaryEmbedding(text_config).to(device)
    language.rotary_emb_unscaled = Molmo2RotaryEmbedding(text_config, scaled=False).to(device)
    return vlm.eval().requires_grad_(False)


class _CacheLayer(CacheLayerMixin):
    """Keys and values of one layer in buffers of fixed size; what is handed out is a view of the part in use."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self.capacity = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        batch, heads, _, width = key_states.shape
        shape = (batch, heads, self.capacity, width)
        self.keys, self.values = key_states.new_empty(shape), value_states.new_empty(shape)
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        end = self.length + key_states.shape[-2]
        if end > self.capacity:
            raise RuntimeError(f"the key/value cache holds {self.capacity} tokens, {end} were written")
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.in_use()

    def in_use(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None and self.values is not None
        return self.keys[..., : self.length, :], self.values[..., : self.length, :]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


class _JoiningLayer(_CacheLayer):
    """Keys and values of one layer, joined anew with each that comes: what a cache without fixed buffers does."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.length:
            keys, values = self.in_use()
            key_states, value_states = torch.cat([keys, key_states], -2), torch.cat([values, value_states], -2)
        self.keys, self.values, self.length = key_states, value_states, key_states.shape[-2]
        return key_states, value_states


class KVCache(Cache):
    """A key/value cache. It is preallocated, kept between calls, and grows only when a longer prompt needs it; where
    not fixed, it is joined anew with each token."""

    def __init__(self, num_layers: int, fixed: bool = True) -> None:
        self._own = [_CacheLayer() if fixed else _JoiningLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._own))

    @property
    def length(self) -> int:
        return self._own[0].length

    @property
    def capacity(self) -> int:
        return self._own[0].capacity

    def reserve(self, capacity: int) -> None:
        """Empties the cache and makes sure that `capacity` tokens fit."""
        for layer in self._own:
            layer.length = 0
            if capacity > layer.capacity:
                layer.capacity, layer.is_initialized = capacity, False

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on."""
        for layer in self._own:
            layer.length = length

    def states(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per layer, keys (after q/k norm and RoPE) and values, each (1, kv_heads, S, head_dim)."""
        return [layer.in_use() for layer in self._own]
