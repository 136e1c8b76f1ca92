# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the weights of a network take on its device, by part: those that are held, or computed from its sizes alone."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn

from .checkpoint import Network, build_network
from .config import ModelConfig, TextConfig
from .engine_options import BYTES, NO_OFFLOAD
from .offload import PLACES, kept_back


def _parts(network: Network) -> dict[str, list[nn.Module]]:
    model: Any = network.vlm.model
    language = model.language_model
    found = {
        "vision": [model.vision_tower, model.multi_modal_projector],
        "language blocks": [language.layers, language.norm],
        "embeddings": [language.embed_tokens],
        "head": [network.vlm.lm_head],
        "expert": [] if network.expert is None else [network.expert],
        "depth gates": [network.gates],
    }
    return {name: modules for name, modules in found.items() if any(list(module.parameters()) for module in modules)}


def held(network: Network) -> dict[str, float]:
    """Bytes by part, of what is held twice once, without what stays in main memory."""
    language, found = network.vlm.model.language_model, {}
    away = {id(p) for module in kept_back(language) for p in module.parameters()} if _offloaded(network.offload) else ()
    for name, modules in _parts(network).items():
        tensors = chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)
        here = (tensor.untyped_storage() for tensor in tensors if id(tensor) not in away)
        stores = {store.data_ptr(): store.nbytes() for store in here}
        found[name] = float(sum(stores.values()))
    return found


def _offloaded(offload: str) -> bool:
    return offload != NO_OFFLOAD


def computed(config: ModelConfig, size: int, language_weights: str, offload: str = NO_OFFLOAD) -> dict[str, float]:
    """Bytes by part, from the sizes. size: bytes of a number that is kept as it is; language_weights: of the linear
    layers of the language model's blocks; offload: without what stays in main memory."""
    network = build_network(config, torch.device("cpu"), torch.float32)
    found = {
        name: float(size * sum(parameter.numel() for module in modules for parameter in module.parameters()))
        for name, modules in _parts(network).items()
    }
    found["language blocks"] -= saved(config.text, size, language_weights)
    if _offloaded(offload):
        found["language blocks"] -= kept(config, size)
    return found


def kept(config: ModelConfig, size: int) -> int:
    """Bytes that stay in main memory where the language model's blocks are offloaded."""
    language: Any = build_network(config, torch.device("cpu"), torch.float32).vlm.model.language_model
    return size * sum(p.numel() for module in kept_back(language) for p in module.parameters())


def copied(text: TextConfig, size: int) -> int:
    """Bytes of the blocks that are on the device at a time where they are offloaded."""
    return block_weights(text) * size * min(PLACES, text.num_layers) // text.num_layers


def block_weights(text: TextConfig) -> int:
    """How many numbers the linear layers of the language model's blocks have, without biases."""
    attention = text.hidden_size * text.head_dim * 2 * (text.num_heads + text.num_kv_heads)
    return text.num_layers * (attention + 3 * text.hidden_size * text.intermediate_size)


def saved(text: TextConfig, size: int, language_weights: str) -> float:
    """Bytes that the language weights do not take, compared with numbers of `size` bytes."""
    return block_weights(text) * (size - BYTES.get(language_weights, size))


def cached(text: TextConfig, tokens: int, size: int) -> int:
    """Bytes of the keys and values of so many tokens."""
    return 2 * text.num_layers * text.num_kv_heads * text.head_dim * tokens * size


def read_back(text: TextConfig, size: int, language_weights: str) -> int:
    """Bytes of the largest matrix that stands in full while it is multiplied, beside those that are held."""
    if language_weights not in BYTES:
        return 0
    outputs = max(2 * text.intermediate_size, text.head_dim * (text.num_heads + 2 * text.num_kv_heads))
    return outputs * text.hidden_size * size
