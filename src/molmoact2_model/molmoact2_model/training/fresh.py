# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Weights to train from nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import nn

from ..blueprint import draw_weights
from ..checkpoint import Network, build_network
from ..config import ModelConfig

EMBEDDING_STD = 0.5


def fresh_network(config: ModelConfig, seed: int) -> Network:
    """A float32 network on the CPU, drawn from `seed` in such a way that training is stable.

    Embeddings are small; matrices keep the variance of what passes them; what writes to a residual stream is scaled by
    1 / sqrt(2 layers); the expert's modulations and last layer are zero, so that each of its blocks begins as the
    identity (adaptive layer norm "zero", Peebles and Xie 2023, section 3.2). Position codes of the image transformer
    are waves of row and column, and state tokens waves of their value: neighbours begin as neighbours.
    """
    network = build_network(config, torch.device("cpu"), torch.float32)
    generator = torch.Generator("cpu").manual_seed(seed)
    for root in (network.vlm, network.gates, network.expert):
        _draw(root, generator)
    layers = config.text.num_layers
    with torch.no_grad():
        _scale_outputs(network, layers)
        _order_positions(network, config, generator)
        _order_states(network, config, generator)
    return network


def with_expert(network: Network, config: ModelConfig, seed: int) -> Network:
    """The same vision and language with a new action expert. config: of the whole."""
    built, generator = build_network(config, network.device, network.dtype), torch.Generator("cpu").manual_seed(seed)
    for root in (built.gates, built.expert):
        _draw(root, generator)
    return replace(built, vlm=network.vlm)


def _draw(root: nn.Module | None, generator: torch.Generator) -> None:
    draw_weights(root, generator, trained=True, table_std=EMBEDDING_STD, zero=("modulation", "final_layer"))


def _scale_outputs(network: Network, layers: int) -> None:
    for layer in network.vlm.model.language_model.layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.mul_((2 * layers) ** -0.5)
    tower = network.vlm.model.vision_tower
    for layer in tower.layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.fc2):
            linear.weight.mul_((2 * len(tower.layers)) ** -0.5)


def waves(places: torch.Tensor, width: int) -> torch.Tensor:
    """places: (N,), 0 .. 1 -> (N, width): sines and cosines of half a turn and up, in octaves."""
    turns = 2.0 ** torch.linspace(-1, 4, width // 2)
    angles = 2 * math.pi * places[:, None] * turns
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _order_positions(network: Network, config: ModelConfig, generator: torch.Generator) -> None:
    positions = network.vlm.model.vision_tower.positional_embedding
    rows, cols = (size // config.vision.patch_size for size in config.vision.image_size)
    width = positions.shape[-1] // 4 * 2
    row, col = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, cols), indexing="ij")
    codes = torch.cat([waves(row.flatten(), width), waves(col.flatten(), width)], dim=1)
    positions.zero_()
    positions[:, : codes.shape[1]] = 0.5 * codes


def _order_states(network: Network, config: ModelConfig, generator: torch.Generator) -> None:
    tokens, table = config.state_tokens, network.vlm.model.language_model.embed_tokens.weight
    codes = waves(torch.linspace(0, 1, tokens.count), 16)
    mixing = torch.randn((codes.shape[1], table.shape[1]), generator=generator) / codes.shape[1] ** 0.5
    table[tokens.first : tokens.first + tokens.count] = EMBEDDING_STD * 2**0.5 * codes @ mixing
