# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What training minimises: flow matching for actions, cross-entropy for tokens (spec section 10)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..config import FlowConfig
from .batch import IGNORED


@dataclass(frozen=True)
class FlowDraw:
    """One draw of noise and flow time for each row of actions. noisy: (N, H, D), what the expert reads; velocity:
    (N, H, D), what it is to say, data minus noise; time: (N,), 0 for noise and 1 for data."""

    noisy: torch.Tensor
    velocity: torch.Tensor
    time: torch.Tensor


def draw_flow(
    actions: torch.Tensor, dim_is_real: torch.Tensor, flow: FlowConfig, generator: torch.Generator
) -> FlowDraw:
    """actions: float32 (N, H, D) in the model's range; dim_is_real: bool (N, D): padding is held at zero. generator: on
    the CPU, so that a run is the same on every device."""
    shape = actions.shape
    noise = torch.randn(shape, generator=generator).to(actions.device) * dim_is_real[:, None]
    time = flow_times(shape[0], flow, generator).to(actions.device)
    share = time[:, None, None]
    return FlowDraw((1 - share) * noise + share * actions, actions - noise, time)


def flow_times(count: int, flow: FlowConfig, generator: torch.Generator) -> torch.Tensor:
    """float32 (count,): offset + (min(cutoff, offset + scale) - offset) * Beta(alpha, beta)."""
    alpha, beta = (torch.full((count,), value) for value in (flow.beta_alpha, flow.beta_beta))
    first, second = (torch._standard_gamma(shape, generator=generator) for shape in (alpha, beta))
    span = min(flow.cutoff, flow.time_offset + flow.time_scale) - flow.time_offset
    return flow.time_offset + span * first / (first + second)


def flow_loss(predicted: torch.Tensor, wanted: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the real waypoints and dimensions. is_real: bool, of the same shape (N, H, D). Zero where
    nothing is real."""
    weight = is_real.to(predicted.dtype)
    return ((predicted - wanted).square() * weight).sum() / weight.sum().clamp_min(1.0)


@dataclass(frozen=True)
class TokenLoss:
    """loss: of all targets, with the z-loss; nll: float32 (N, T), of each target without it; right: bool (N, T), where
    the likeliest token is the target."""

    loss: torch.Tensor
    nll: torch.Tensor
    right: torch.Tensor


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, spread: torch.Tensor, z_loss: float
) -> TokenLoss:
    """Mean over the positions with a target. logits (N, T, V), targets (N, T).

    spread: (N, T), 0 for a plain target. Where it is s > 0 the target is one of an ordered run of tokens, and its
    neighbours are right in part: the label is a bell of standard deviation s tokens around it, so that near misses cost
    less than far ones.
    """
    chosen = targets != IGNORED
    rows, ids, width = logits[chosen].float(), targets[chosen], spread[chosen]
    nll, right = torch.zeros(targets.shape, device=logits.device), torch.zeros_like(chosen)
    if not len(ids):
        return TokenLoss(logits.sum() * 0.0, nll, right)
    normalizer = torch.logsumexp(rows, dim=-1)
    each = normalizer - rows.gather(-1, ids[:, None])[:, 0]
    soft = width > 0
    loss_each = each
    if soft.any():
        loss_each = torch.where(soft, _soft(rows, ids, width, normalizer), each)
    nll[chosen] = each.detach()
    right[chosen] = rows.argmax(-1) == ids
    return TokenLoss((loss_each + z_loss * normalizer.square()).mean(), nll, right)


def _soft(rows: torch.Tensor, ids: torch.Tensor, width: torch.Tensor, normalizer: torch.Tensor) -> torch.Tensor:
    reach = 8
    offsets = torch.arange(-reach, reach + 1, device=rows.device)
    bell = torch.exp(-0.5 * (offsets / width.clamp_min(1e-3)[:, None]).square())
    bell = bell / bell.sum(-1, keepdim=True)
    near = (ids[:, None] + offsets).clamp(0, rows.shape[-1] - 1)
    return normalizer - (bell * rows.gather(-1, near)).sum(-1)
