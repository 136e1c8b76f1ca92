# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the fused blocks of language model and expert are made of. A small model's time goes into starting operations,
not into arithmetic, on a GPU a large one's as well; so: few operations, and no dimension of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Norm:
    """x / sqrt(mean(x^2) + eps) over the last dimension of `width`, without weights, in float32 or finer."""

    def __init__(self, width: int, eps: float, device: torch.device):
        self._share, self._eps = 1.0 / width, torch.tensor(eps, device=device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        full = x if x.dtype in (torch.float32, torch.float64) else x.float()
        length = torch.linalg.vector_norm(full, dim=-1, keepdim=True)
        return (full * torch.addcmul(self._eps, length, length, value=self._share).rsqrt()).to(x.dtype)


Tables = tuple[torch.Tensor, torch.Tensor]


def turning(cos: torch.Tensor, sin: torch.Tensor) -> Tables:
    """Of cosines and sines (..., width / 2): tables (..., width) by which `turn` rotates the two halves of a vector."""
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def turn(x: torch.Tensor, tables: Tables) -> torch.Tensor:
    """x (..., width): first * cos - second * sin, second * cos + first * sin."""
    cos, sin = tables
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def join(layers: Sequence[nn.Linear], pinned: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight (all outputs, inputs) and bias of linear layers as one. The layers keep theirs as views into it, so that
    nothing is held twice; whoever else trains or replaces them must not use this. pinned: in main memory that a GPU
    reads by itself."""
    parts = [layer.weight.detach() for layer in layers]
    whole = (sum(len(part) for part in parts), parts[0].shape[1])
    weight = torch.cat(parts, out=torch.empty(whole, dtype=parts[0].dtype, device=parts[0].device, pin_memory=pinned))
    bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
    begin = 0
    for layer in layers:
        end = begin + layer.out_features
        layer.weight = nn.Parameter(weight[begin:end], requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias[begin:end], requires_grad=False)
        begin = end
    return weight, bias
