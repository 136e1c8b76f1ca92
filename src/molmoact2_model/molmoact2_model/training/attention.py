# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attention that trains fast in bf16 on a processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def faster_attention(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """To run a model's forward pass in, where torch's fused attention is the slower one: its backward pass in bf16 on
    processors (torch 2.x, short sequences). Elsewhere it changes nothing."""
    return _InProducts() if device.type == "cpu" and precision == "bf16" else nullcontext()


class _InProducts(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        called = attention_in_products if func is functional.scaled_dot_product_attention else func
        return called(*args, **(kwargs or {}))


def attention_in_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:
    """torch's scaled_dot_product_attention, with its arguments, as two products and a softmax in float32. query: (...,
    heads, L, width); key, value: (..., heads, S, width); attn_mask: bool, True where it sees, or added to the scores.
    Errors: ValueError for dropout."""
    if dropout_p:
        raise ValueError("attention in products has no dropout")
    if enable_gqa:
        key, value = (states.repeat_interleave(query.shape[-3] // key.shape[-3], -3) for states in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * factor @ key.transpose(-1, -2)).float()
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1).to(value.dtype) @ value
