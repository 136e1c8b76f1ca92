# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Decoder of a VQ-VAE whose codes are depth codes, in the layout of the published one. For pictures only.

The published codes were made from depth images: the relative depth of DepthAnythingV2, brought to uint8 by its least
and greatest value, so that neither scale nor offset is left. The encoder is described as: a stem convolution (kernel 4,
stride 2), four more that each double the channels, residual blocks, a 1x1 convolution to the codebook's vectors. The
decoder is taken to mirror it. Read from the file, and refused by name where it does not fit:

    codebook                          codes x D, or D x codes
    decoder.<n>...                    1x1 convolution D -> C
                                      residual blocks: 3x3, 3x3, 1x1 convolutions C -> C, any number of them
                                      transposed 4x4 convolutions, any number of them
                                      1x1 convolution to 1 or 3 channels (3: their mean is taken)

What a file of weights does not say is assumed (`ASSUMED`): no published code was at hand when this was written, and no
published file has been read with it. A wrong assumption shows as a picture that does not resemble the scene.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from .depth import NEARER, RELATIVE, DepthMap, check_codes
from .errors import CheckpointError

ASSUMED = (
    "assumed, because weights do not tell: 4x4 convolutions have stride 2 and padding 1, ReLU follows each; a residual "
    "block is x + conv1x1(relu(conv3x3(relu(conv3x3(x))))); larger values are nearer"
)
_DECODER = re.compile(r"(?:^|\.)decoder\.")
_PARAMETER = re.compile(r"\.(weight|bias)$")


@dataclass(frozen=True)
class _Convolution:
    """name: of its weight without the suffix; weight: 4-D; bias: 1-D or None."""

    name: str
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]


class VqVaeDecoder:
    """Decodes codes by the network in a file. Errors: CheckpointError that names the tensor."""

    unit = RELATIVE

    def __init__(self, path: Path):
        tensors = _read(path)
        self.source = f"VQ-VAE {path.name}, relative"
        self._path = path
        self._enter, self._blocks, self._grow, self._leave = _layout(_convolutions(tensors, path), path)
        self._codebook = _codebook(tensors, self._enter.weight.shape[1], path)

    def decode(self, codes: np.ndarray) -> DepthMap:
        """Relative depth, each side 2 ** (number of transposed convolutions) times that of the codes (rows, cols)."""
        grid = torch.from_numpy(check_codes(codes, self._codebook.shape[0]))
        with torch.inference_mode():
            x = self._codebook[grid].permute(2, 0, 1)[None]
            x = functional.conv2d(x, self._enter.weight, self._enter.bias)
            for first, second, third in self._blocks:
                y = functional.relu(functional.conv2d(x, first.weight, first.bias, padding=1))
                y = functional.relu(functional.conv2d(y, second.weight, second.bias, padding=1))
                x = x + functional.conv2d(y, third.weight, third.bias)
            for layer in self._grow:
                x = functional.relu(functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1))
            x = functional.conv2d(x, self._leave.weight, self._leave.bias)
            values = x[0].mean(dim=0).numpy()
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self._path}: the decoder gives values that are not finite")
        return DepthMap(values, RELATIVE, NEARER, (float(values.min()), float(values.max())), self.source)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """All tensors, float32. Nothing but tensors is ever loaded from a file."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, and that is never run; save its state_dict alone ({error})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as weights: {error}") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected tensors by name (a state_dict)")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{path}: {name} is a {type(value).__name__}, expected a tensor")
    return {str(name): value.float() for name, value in content.items()}


def _convolutions(tensors: dict[str, torch.Tensor], path: Path) -> Iterator[_Convolution]:
    """The decoder's convolutions in the order of the numbers in their names. Every tensor of the decoder is used."""
    names = [name for name in tensors if _DECODER.search(name)]
    if not names:
        raise CheckpointError(f"{path}: no tensor is named decoder.*; there are: {', '.join(list(tensors)[:8])} ...")
    layers = sorted({_PARAMETER.sub("", name) for name in names}, key=_natural)
    for layer in layers:
        weight = tensors.get(f"{layer}.weight")
        if weight is None or weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            shape = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
            raise CheckpointError(
                f"{path}: {layer}.weight is {shape}; the layout known here has square convolutions only. {ASSUMED}"
            )
        yield _Convolution(layer, weight, tensors.get(f"{layer}.bias"))


def _natural(name: str) -> list[Any]:
    """Sorts decoder.10 behind decoder.9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]


_Block = tuple[_Convolution, _Convolution, _Convolution]


def _layout(
    layers: Iterator[_Convolution], path: Path
) -> tuple[_Convolution, list[_Block], list[_Convolution], _Convolution]:
    """The first convolution, residual blocks, transposed convolutions, the last convolution."""
    rest = list(layers)

    def take(what: str, kernel: int, inputs: int | None, outputs: int | None = None) -> _Convolution:
        if not rest:
            raise CheckpointError(f"{path}: the decoder ends where {what} was expected. {ASSUMED}")
        layer = rest.pop(0)
        transposed = kernel == 4
        entering, leaving = (layer.weight.shape[i] for i in ((0, 1) if transposed else (1, 0)))
        fits = layer.kernel == kernel and inputs in (None, entering) and outputs in (None, leaving)
        if not fits or (layer.bias is not None and tuple(layer.bias.shape) != (leaving,)):
            wanted = f"{inputs or 'any number'} to {outputs or 'any number of'} channels"
            raise CheckpointError(
                f"{path}: {layer.name} has shape {tuple(layer.weight.shape)}, "
                f"expected {what} ({kernel}x{kernel}, {wanted}). {ASSUMED}"
            )
        return layer

    enter = take("the convolution from the codebook", 1, None)
    channels, blocks, grow = enter.weight.shape[0], [], []
    while rest and rest[0].kernel == 3:
        parts = [take("a convolution of a residual block", kernel, channels, channels) for kernel in (3, 3, 1)]
        blocks.append((parts[0], parts[1], parts[2]))
    while rest and rest[0].kernel == 4:
        grow.append(take("a transposed convolution", 4, channels))
        channels = grow[-1].weight.shape[1]
    leave = take("the convolution to the image", 1, channels)
    if rest or leave.weight.shape[0] not in (1, 3):
        surplus = rest[0].name if rest else f"{leave.name} with {leave.weight.shape[0]} channels"
        raise CheckpointError(f"{path}: the decoder must end with an image of 1 or 3 channels, but goes on: {surplus}")
    return enter, blocks, grow, leave


def _codebook(tensors: dict[str, torch.Tensor], width: int, path: Path) -> torch.Tensor:
    """float32 (codes, width)."""
    outside = {name: t for name, t in tensors.items() if t.ndim == 2 and not re.search(r"(^|\.)(de|en)coder\.", name)}
    # Averages that only training needs have the codebook's shape.
    found = {name: t for name, t in outside.items() if not re.search(r"avg|ema|cluster", name) and width in t.shape}
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: expected one codebook, a matrix with a side of {width}; found {', '.join(found) or 'none'}"
        )
    ((name, codebook),) = found.items()
    if codebook.shape[0] == codebook.shape[1]:
        raise CheckpointError(f"{path}: {name} is square; which of its sides counts the codes cannot be told")
    return codebook if codebook.shape[1] == width else codebook.T.contiguous()
