# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What training minimises: flow matching for actions, cross-entropy for tokens (spec section 10)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..config import FlowConfig
from .batch import KINDS, PLACE


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
    """actions: float32 (N, H, D) in the model's range; dim_is_real: bool (D,): padding is held at zero. generator: on
    the CPU, so that a run is the same on every device."""
    shape = actions.shape
    noise = torch.randn(shape, generator=generator).to(actions.device) * dim_is_real
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
    """losses: of each kind of target, its mean with the z-loss, 0 where there is none. right: the share of each kind
    that the likeliest token is; NaN where there is none."""

    losses: torch.Tensor
    right: torch.Tensor


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, kinds: torch.Tensor, z_loss: float, spread: float
) -> TokenLoss:
    """logits: (M, V) of the positions that have a target; targets, kinds: int64 (M,).

    spread: the tokens of a place are an ordered run, and near misses are right in part: their label is a bell of that
    standard deviation (in tokens) around the target; 0: the target alone.
    """
    logits = logits.float()
    normalizer = torch.logsumexp(logits, dim=-1)
    each = normalizer - logits.gather(-1, targets[:, None])[:, 0]
    if spread > 0 and bool((kinds == PLACE).any()):
        each = torch.where(kinds == PLACE, _bell(logits, targets, spread, normalizer), each)
    each = each + z_loss * normalizer.square()
    hit = (logits.argmax(-1) == targets).float()
    losses, right = [], []
    for kind in KINDS:
        chosen = (kinds == kind).float()
        number = chosen.sum()
        losses.append((each * chosen).sum() / number.clamp_min(1.0))
        right.append(torch.where(number > 0, (hit * chosen).sum() / number.clamp_min(1.0), torch.nan))
    return TokenLoss(torch.stack(losses), torch.stack(right).detach())


def _bell(logits: torch.Tensor, targets: torch.Tensor, spread: float, normalizer: torch.Tensor) -> torch.Tensor:
    reach = math.ceil(3 * spread)
    offsets = torch.arange(-reach, reach + 1, device=logits.device)
    bell = torch.softmax(-0.5 * (offsets / spread).square(), dim=0)
    near = (targets[:, None] + offsets).clamp(0, logits.shape[-1] - 1)
    return normalizer - logits.gather(-1, near) @ bell


def look_loss(attention: torch.Tensor, look_at: torch.Tensor) -> torch.Tensor:
    """How far marks look from where they should: cross-entropy. attention: log-probabilities (R, P) of the prefix's
    tokens; look_at: float32 (R, P), the shares wanted. Zero where there are none."""
    return -(look_at * attention).sum(-1).mean() if len(attention) else attention.sum()
