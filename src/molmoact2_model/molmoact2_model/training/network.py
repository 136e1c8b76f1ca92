# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A network as training runs it: whole batches, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from ..checkpoint import Network
from ..images import ImageConfig
from ..processing import pooling_index
from .batch import Batch
from .objectives import TokenLoss, cross_entropy, draw_flow, flow_loss


@dataclass(frozen=True)
class Weights:
    """Of the losses in the sum. z_loss: of the square of the log-normaliser. flow_draws: noise and time drawn for each
    chunk. detach: the expert's gradient ends at the language model's keys and values (knowledge insulation)."""

    flow: float = 1.0
    tokens: float = 1.0
    z_loss: float = 1e-4
    flow_draws: int = 4
    detach: bool = False


@dataclass(frozen=True)
class Losses:
    """total: to be minimised. flow: 0 where the batch has no actions."""

    total: torch.Tensor
    flow: torch.Tensor
    tokens: TokenLoss


class TrainingModel(nn.Module):
    """All weights of a network under one module, so that wrappers for many GPUs see one forward pass."""

    def __init__(self, network: Network, images: ImageConfig):
        super().__init__()
        self.vlm, self.expert, self.gates = network.vlm, network.expert, network.gates
        self.config, self._images = network.config, images

    def forward(self, batch: Batch, weights: Weights, generator: torch.Generator) -> Losses:
        hidden, key_values = self.read(batch)
        wanted = batch.targets
        tokens = cross_entropy(self.vlm.lm_head(hidden), wanted, batch.spread, weights.z_loss)
        total, flow = weights.tokens * tokens.loss, tokens.loss.new_zeros(())
        if self.expert is not None and weights.flow > 0 and bool(batch.action_is_real.any()):
            flow = self._flow(batch, key_values, weights, generator)
            total = total + weights.flow * flow
        return Losses(total, flow, tokens)

    # --- language model ---------------------------------------------------------------------------------------------
    def read(self, batch: Batch) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Hidden states of the tails (N, T, hidden), and per layer the keys and values (N, heads, P + T, width)."""
        cache = self._read_prefix(batch)
        for layer in cache.layers:
            assert layer.keys is not None and layer.values is not None
            layer.keys, layer.values = layer.keys[batch.frame], layer.values[batch.frame]
        language: Any = self.vlm.model.language_model
        past, length = len(batch.prefix), batch.tail.shape[1]
        rows = torch.arange(past, past + length, device=batch.tail.device)
        # Padding is on the right, so no real token sees it.
        visible = torch.arange(past + length, device=batch.tail.device)[None] <= rows[:, None]
        output = language(
            inputs_embeds=language.embed_tokens(batch.tail),
            attention_mask=visible[None, None],
            position_ids=rows[None],
            past_key_values=cache,
            use_cache=True,
        )
        return output.last_hidden_state, [(layer.keys, layer.values) for layer in cache.layers]

    def _read_prefix(self, batch: Batch) -> DynamicCache:
        model: Any = self.vlm.model
        frames, count = batch.pixels.shape[:2]
        device = batch.pixels.device
        grid = torch.tensor([[*self._images.token_grid, 0, 0]] * (frames * count), device=device)
        pooling = pooling_index(self._images, frames * count).to(device)
        features = torch.cat(model.get_image_features(batch.pixels.flatten(0, 1), pooling, grid).pooler_output)
        embeddings = model.language_model.embed_tokens(batch.prefix)[None].repeat(frames, 1, 1)
        patches = (batch.prefix == self.config.image_tokens.patch)[None].expand(frames, -1)
        added = torch.zeros_like(embeddings)
        added[patches] = features.to(embeddings.dtype)
        position = torch.arange(len(batch.prefix), device=device)
        image = batch.prefix_is_image
        visible = (position[None] <= position[:, None]) | (image[None] & image[:, None])
        cache = DynamicCache()
        model.language_model(
            inputs_embeds=embeddings + added,
            attention_mask=visible[None, None],
            position_ids=position[None],
            past_key_values=cache,
            use_cache=True,
        )
        return cache

    # --- action expert ----------------------------------------------------------------------------------------------
    def _flow(
        self, batch: Batch, key_values: list[tuple[torch.Tensor, torch.Tensor]], weights: Weights,
        generator: torch.Generator,
    ) -> torch.Tensor:
        assert self.expert is not None
        rows = torch.nonzero(batch.action_is_real.any(1))[:, 0].repeat_interleave(weights.flow_draws)
        if weights.detach:
            key_values = [(keys.detach(), values.detach()) for keys, values in key_values]
        # Projected once for each sequence, then repeated for its draws.
        context = self.expert.context(key_values, batch.expert_sees)
        assert context.mask is not None
        layers = [(keys[rows], values[rows]) for keys, values in context.layers]
        draw = draw_flow(batch.actions[rows], batch.dim_is_real[rows], self.config.flow, generator)
        repeated = type(context)(layers, context.mask[rows])
        horizon = draw.noisy.shape[1]
        velocity = self.expert(
            draw.noisy.to(self.expert.dtype), repeated, self.expert.modulations(draw.time), self.expert.rope(horizon)
        )
        is_real = batch.action_is_real[rows][:, :, None] & batch.dim_is_real[rows][:, None, :]
        return flow_loss(velocity.float(), draw.velocity, is_real)
