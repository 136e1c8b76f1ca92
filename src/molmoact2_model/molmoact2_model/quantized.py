# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The linear layers of the language model's blocks in 8 or 4 bits, by bitsandbytes; all else of a network as it is.

Only the weights are: products are computed from the numbers they stand for, in the network's own type. Groups of GROUP
numbers in a row of memory share a scale, the largest of them; "int8" has 255 steps of equal size, "nf4" 16 that lie as
normal numbers do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .engine_options import GROUP, INT8, NF4, check_library
from .errors import CheckpointError, ModelError
from .fused import join

# How far a number may be from the stored one, in shares of the largest of its group: half of the widest step, and a
# little, because the library does not always choose the nearest.
WORST = {INT8: 0.0040, NF4: 0.1525}
_CHECKED_ROWS = (1, 16)    # of a product: few and many rows go through other kernels of a GPU
Product = Callable[[torch.Tensor], torch.Tensor]


@cache
def library() -> ModuleType:
    """Errors: InputError where it is not installed."""
    check_library()
    # Where the package kernels is installed as well, importing bitsandbytes would fetch compiled code from the Hub.
    # What runs beside an arm is what was installed; the warning that it was not fetched says nothing to a user.
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level, hidden = logger.level, "kernels" not in sys.modules
    logger.setLevel(logging.ERROR)
    if hidden:
        sys.modules["kernels"] = None    # type: ignore[assignment]
    try:
        import bitsandbytes
        import bitsandbytes.functional
    finally:
        logger.setLevel(level)
        if hidden:
            del sys.modules["kernels"]
    return bitsandbytes


@cache
def _steps(kind: str, device: torch.device) -> torch.Tensor:
    """What the numbers stand for, in shares of the scale."""
    functions = library().functional
    if kind == INT8:
        return functions.create_linear_map(signed=True, total_bits=8).to(device)
    return functions.get_4bit_type(NF4, device=device)


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is kept in fewer bits: x (..., in_features) -> (..., out_features), in x's type.

    numbers: uint8, one byte for each weight ("int8") or for two ("nf4"), in the order of the weight's memory; scales:
    float32 (weights / GROUP,). dtype: of what they stand for.
    """

    def __init__(
        self, kind: str, shape: tuple[int, int], numbers: torch.Tensor, scales: torch.Tensor,
        bias: nn.Parameter | None, dtype: torch.dtype,
    ):    # fmt: skip
        super().__init__()
        self.kind, self.dtype = kind, dtype
        self.out_features, self.in_features = shape
        self.numbers, self.scales = nn.Buffer(numbers), nn.Buffer(scales)
        self.bias = bias

    @classmethod
    def of(cls, layer: nn.Linear, kind: str) -> QuantizedLinear:
        """Errors: ModelError where what is read back is not what was written."""
        weight = layer.weight.detach()
        functions, steps = library().functional, _steps(kind, weight.device)
        if kind == INT8:
            numbers, state = functions.quantize_blockwise(weight, code=steps, blocksize=GROUP)
        else:
            numbers, state = functions.quantize_4bit(
                weight, blocksize=GROUP, compress_statistics=False, quant_type=kind
            )
        shape = (layer.out_features, layer.in_features)
        made = cls(kind, shape, numbers.flatten(), state.absmax, layer.bias, weight.dtype)
        made._check(weight)
        return made

    def weight(self) -> torch.Tensor:
        """The numbers that are computed with, (out_features, in_features)."""
        shape = (self.out_features, self.in_features)
        # As rows of one group each: for rows that are no multiple of it the library reads 4 bits wrongly on a
        # processor (0.50.2).
        state = self._state((self.numbers.numel() * (1 if self.kind == INT8 else 2) // GROUP, GROUP))
        functions = library().functional
        if self.kind == INT8:
            return functions.dequantize_blockwise(self.numbers, state).view(shape)
        return functions.dequantize_4bit(self.numbers[:, None], state).view(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == NF4 and self.in_features % GROUP == 0:
            # On a GPU few rows are multiplied without writing the weight out.
            state = self._state((self.out_features, self.in_features))
            return library().matmul_4bit(x, self.numbers[:, None], quant_state=state, bias=self.bias)
        return functional.linear(x, self.weight(), self.bias)

    def rows(self, begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the numbers and scales of some outputs."""
        parts, whole = (self.numbers, self.scales), self.out_features
        numbers, scales = (part[begin * len(part) // whole : end * len(part) // whole] for part in parts)
        return numbers, scales

    def _state(self, shape: tuple[int, int]) -> Any:
        return library().functional.QuantState(
            absmax=self.scales, shape=torch.Size(shape), code=_steps(self.kind, self.scales.device), blocksize=GROUP,
            quant_type=self.kind if self.kind == NF4 else None, dtype=self.dtype,
        )    # fmt: skip

    def _check(self, weight: torch.Tensor) -> None:
        """Holds what the library reads back on this device against what was stored."""
        if not torch.isfinite(weight).all():
            raise CheckpointError(f"a weight of {tuple(weight.shape)} in the language model's blocks is not finite")
        dense, type_ = self.weight(), torch.finfo(weight.dtype)
        off = (dense.float() - weight.float()).view(-1, GROUP).abs()
        largest = weight.float().view(-1, GROUP).abs().amax(dim=1, keepdim=True)
        right = bool((off <= (WORST[self.kind] + type_.eps) * largest + type_.eps * type_.smallest_normal).all())
        for count in _CHECKED_ROWS:
            rows = weight[:count]
            wanted = functional.linear(rows, dense, self.bias)
            difference = (self(rows) - wanted).float().norm()
            right = right and bool(difference <= max(8 * type_.eps, 1e-4) * wanted.float().norm())
        if not right:
            raise ModelError(
                f"bitsandbytes {library().__version__} does not read back what it wrote as {self.kind} (a weight of "
                f"{tuple(weight.shape)} on {weight.device}); use language_weights stored"
            )


def product(layers: Sequence[nn.Module], pinned: bool = False) -> Product:
    """What computes the outputs of all these layers of one input, one behind the other. Weights are joined; the layers
    keep views (fused.join). pinned: of stored weights, see there."""
    if isinstance(layers[0], QuantizedLinear):
        return _joined([layer for layer in layers if isinstance(layer, QuantizedLinear)])
    plain = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weight, bias = join(plain, pinned) if len(plain) > 1 or pinned else (plain[0].weight, plain[0].bias)
    return partial(functional.linear, weight=weight, bias=bias)


def _joined(layers: Sequence[QuantizedLinear]) -> QuantizedLinear:
    """The layers keep theirs as views into it."""
    first, outputs = layers[0], sum(layer.out_features for layer in layers)
    if len(layers) == 1:
        return first
    biases, bias = [layer.bias for layer in layers if layer.bias is not None], None
    if biases:
        bias = nn.Parameter(torch.cat(tuple(biases)), requires_grad=False)
    numbers, scales = (torch.cat([getattr(layer, name) for layer in layers]) for name in ("numbers", "scales"))
    whole = QuantizedLinear(first.kind, (outputs, first.in_features), numbers, scales, bias, first.dtype)
    begin = 0
    for layer in layers:
        end = begin + layer.out_features
        numbers, scales = whole.rows(begin, end)
        layer.numbers, layer.scales = nn.Buffer(numbers), nn.Buffer(scales)
        if bias is not None:
            layer.bias = nn.Parameter(bias[begin:end], requires_grad=False)
        begin = end
    return whole


class Quantizing:
    """Replaces the linear layers of a language model's blocks, one by one as they are filled, so that never more than
    one of them is held in full."""

    def __init__(self, language: Any, kind: str):
        """language: transformers' text model. Errors: InputError without the library, CheckpointError for sizes that
        do not go into groups."""
        library()
        self._kind = kind
        self._places: dict[nn.Module, tuple[nn.Module, str]] = {}
        for parent in language.layers.modules():
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear):
                    self._places[child] = parent, name
        for layer in self._places:
            weight: Any = layer.weight
            if weight.numel() % GROUP:
                raise CheckpointError(
                    f"language_weights {kind} goes by groups of {GROUP} numbers, and the language model has a weight "
                    f"of {tuple(weight.shape)}; use language_weights stored"
                )

    def __call__(self, module: nn.Module) -> None:
        """Replaces this one, if it is one of them and has all that belongs to it."""
        if module not in self._places or any(parameter.is_meta for parameter in module.parameters()):
            return
        parent, name = self._places.pop(module)
        assert isinstance(module, nn.Linear)
        setattr(parent, name, QuantizedLinear.of(module, self._kind))
        module.weight = None    # type: ignore[assignment]  # freed, whoever still holds the layer
