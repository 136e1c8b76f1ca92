# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A network as training runs it: whole batches, with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicCache
from transformers.models.molmo2.modeling_molmo2 import apply_rotary_pos_emb

from ..checkpoint import Network
from ..expert import Context, DepthGate, KeyValues, depth_tokens, gated
from ..images import ImageConfig
from ..processing import pooling_index
from .batch import IGNORED, KIND_NAMES, Batch
from .objectives import TokenLoss, cross_entropy, draw_flow, flow_loss, look_loss


@dataclass(frozen=True)
class Objective:
    """Weights of the losses, and what else they depend on. text, codes, discrete, place: of the kinds of tokens.
    z_loss: of the square of the log-normaliser. spread: of places, see objectives.cross_entropy. flow_draws: noise and
    time drawn for each chunk. detach: the expert's gradient ends at the language model's keys and values (knowledge
    insulation). look: of attention heads of one layer of the language model: the words that name a thing are shown
    where it is; training alone knows of it. look_layer, look_head: which one looks at the main image, and the head
    after it at the second one; the action expert can use what the words have seen from the layer after it on."""

    flow: float = 1.0
    text: float = 1.0
    codes: float = 1.0
    discrete: float = 1.0
    place: float = 0.0
    z_loss: float = 1e-4
    spread: float = 3.0
    flow_draws: int = 4
    detach: bool = False
    look: float = 0.0
    look_layer: int = 0
    look_head: int = 0


@dataclass(frozen=True)
class Losses:
    """total: to be minimised. parts: each loss by name, without its weight; only those the batch has. teaches: that any
    of them that counts depends on a weight that is trained; else the total is zero times one, so that a backward pass
    can be run wherever others run one."""

    total: torch.Tensor
    parts: dict[str, float]
    teaches: bool = True


class TrainingModel(nn.Module):
    """All weights of a network under one module, so that wrappers for many GPUs see one forward pass."""

    def __init__(self, network: Network, images: ImageConfig, objective: Objective):
        super().__init__()
        self.vlm, self.expert, self.gates = network.vlm, network.expert, network.gates
        self.config, self._images, self.objective = network.config, images, objective
        self._watched: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]] | None = None
        if objective.look > 0:
            attention = self._language.layers[objective.look_layer].self_attn
            attention.register_forward_pre_hook(self._watch, with_kwargs=True)

    @property
    def _language(self) -> Any:
        return self.vlm.model.language_model

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """generator: of noise and flow times."""
        weights = self.objective
        hidden, key_values = self.read(batch)
        tokens = self._tokens(batch, hidden)
        total, parts = hidden.new_zeros(()), {}
        for index, name in enumerate(KIND_NAMES):
            if bool((batch.kinds[batch.targets != IGNORED] == index).any()):
                if getattr(weights, name) > 0:    # a gradient of zeros would move weights by decay and momentum
                    total = total + getattr(weights, name) * tokens.losses[index]
                parts[name] = float(tokens.losses[index].detach())
                parts[f"{name}_right"] = float(tokens.right[index])
        if weights.look > 0 and bool((batch.looks >= 0).any()):
            look = look_loss(*self._looks(batch, key_values))
            total, parts = total + weights.look * look, parts | {"look": float(look.detach())}
        if self.expert is not None and weights.flow > 0 and bool(batch.action_is_real.any()):
            flow = self._flow(batch, key_values, generator)
            total, parts = total + weights.flow * flow, parts | {"flow": float(flow.detach())}
        if torch.is_grad_enabled() and not total.requires_grad:
            trained = next((parameter for parameter in self.parameters() if parameter.requires_grad), None)
            return Losses(total if trained is None else total + 0.0 * trained.flatten()[0], parts, False)
        return Losses(total, parts)

    def _tokens(self, batch: Batch, hidden: torch.Tensor) -> TokenLoss:
        chosen = batch.targets != IGNORED
        logits = self.vlm.lm_head(hidden[chosen])
        weights = self.objective
        return cross_entropy(logits, batch.targets[chosen], batch.kinds[chosen], weights.z_loss, weights.spread)

    # --- language model ---------------------------------------------------------------------------------------------
    def read(self, batch: Batch) -> tuple[torch.Tensor, KeyValues]:
        """Hidden states of the tails (N, T, hidden), and per layer the keys and values (N, heads, P + T, width)."""
        cache: Any = self._read_prefix(batch)    # of plain attention layers only
        for layer in cache.layers:
            layer.keys, layer.values = layer.keys[batch.frame], layer.values[batch.frame]
        past, length = len(batch.prefix), batch.tail.shape[1]
        rows = torch.arange(past, past + length, device=batch.tail.device)
        # Padding is on the right, so no real token sees it.
        visible = torch.arange(past + length, device=batch.tail.device)[None] <= rows[:, None]
        output = self._language(
            inputs_embeds=self._language.embed_tokens(batch.tail),
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
        embeddings = self._language.embed_tokens(batch.prefix)[None].repeat(frames, 1, 1)
        patches = torch.nonzero(batch.prefix == self.config.image_tokens.patch)[:, 0]
        features = features.to(embeddings.dtype).unflatten(0, (frames, len(patches)))
        position = torch.arange(len(batch.prefix), device=device)
        image = batch.prefix_is_image
        visible = (position[None] <= position[:, None]) | (image[None] & image[:, None])
        cache = DynamicCache()
        self._language(
            inputs_embeds=embeddings.index_add(1, patches, features),
            attention_mask=visible[None, None],
            position_ids=position[None],
            past_key_values=cache,
            use_cache=True,
        )
        return cache

    # --- where a head looks -----------------------------------------------------------------------------------------
    def _watch(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Keeps what the watched layer's attention reads; of a batch's two passes the last one, the tails', stays."""
        self._watched = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0], kwargs["position_embeddings"]

    def _looks(self, batch: Batch, key_values: KeyValues) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (R, P) with which each asked head looks at the prefix's tokens, and what is wanted: one row
        for each position and image that it is to look at."""
        assert self._watched is not None
        hidden, rotation = self._watched
        attention = self._language.layers[self.objective.look_layer].self_attn
        rows, images = torch.nonzero((batch.looks >= 0)[:, None] & (batch.look_at > 0).any(-1), as_tuple=True)
        places, heads = batch.looks[rows], self.objective.look_head + images
        query = attention.q_proj(hidden[rows, places]).unflatten(-1, (-1, attention.head_dim))[:, None]
        query = attention.q_norm(query).transpose(1, 2)
        cos, sin = (table.expand(len(hidden), -1, -1)[rows, places][:, None] for table in rotation)
        query, _ = apply_rotary_pos_emb(query, query, cos, sin)
        keys = key_values[self.objective.look_layer][0][rows, heads // attention.num_key_value_groups]
        chosen = query[torch.arange(len(rows), device=rows.device), heads]
        scores = (keys @ chosen.transpose(-1, -2))[..., 0] * attention.scaling
        past = len(batch.prefix)
        later = torch.arange(keys.shape[1], device=keys.device)[None] > (past + places)[:, None]
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        return scores.float().log_softmax(-1)[:, :past], batch.look_at[rows, images]

    # --- action expert ----------------------------------------------------------------------------------------------
    def _flow(self, batch: Batch, key_values: KeyValues, generator: torch.Generator) -> torch.Tensor:
        assert self.expert is not None
        with_actions = torch.nonzero(batch.action_is_real.any(1))[:, 0]
        key_values = [(keys[with_actions], values[with_actions]) for keys, values in key_values]
        if self.objective.detach:
            key_values = [(keys.detach(), values.detach()) for keys, values in key_values]
        sees = batch.expert_sees[with_actions]
        if len(self.gates):
            gates = [gate for gate in self.gates if isinstance(gate, DepthGate)]
            key_values = gated(key_values, gates, sees, self._is_depth(batch, with_actions))
        # Projected once for each sequence, then repeated for its draws.
        context = self.expert.context(key_values, sees)
        assert context.mask is not None
        draws = self.objective.flow_draws
        layers = [(k.repeat_interleave(draws, 0), v.repeat_interleave(draws, 0)) for k, v in context.layers]
        repeated = Context(layers, context.mask.repeat_interleave(draws, 0))
        rows = with_actions.repeat_interleave(draws)
        draw = draw_flow(batch.actions[rows], batch.dim_is_real, self.config.flow, generator)
        horizon = draw.noisy.shape[1]
        velocity = self.expert(
            draw.noisy.to(self.expert.dtype), repeated, self.expert.modulations(draw.time), self.expert.rope(horizon)
        )
        is_real = batch.action_is_real[rows][:, :, None] & batch.dim_is_real
        return flow_loss(velocity.float(), draw.velocity, is_real)

    def _is_depth(self, batch: Batch, rows: torch.Tensor) -> torch.Tensor:
        """bool (R, P + T): tokens that belong to depth."""
        return depth_tokens(torch.cat([batch.prefix.expand(len(rows), -1), batch.tail[rows]], dim=1), self.config)
