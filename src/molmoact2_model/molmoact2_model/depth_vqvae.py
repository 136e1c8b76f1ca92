# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Encoder and decoder of a VQ-VAE whose codes are depth codes, in the layout of the published one.

The published codes were made of camera images: the relative depth (near: large) that DepthAnythingV2 sees in one,
brought to uint8 by its least and greatest value, so that neither scale nor offset is left; resized to the network's
square by the nearest pixel, and brought to -1 .. 1. Read from the file, and refused by name where it does not fit:

    codebook                          codes x D, or D x codes
    encoder.<n>...                    4x4 convolutions, the first from 1 channel, any number of them
                                      residual blocks: 3x3, 3x3, 1x1 convolutions C -> C, any number of them
                                      1x1 convolution C -> D
    decoder.<n>...                    1x1 convolution D -> C
                                      residual blocks, any number of them
                                      transposed 4x4 convolutions, any number of them
                                      1x1 convolution to 1 or 3 channels (3: their mean is taken)

What a file of weights does not say (`STATED`) is as the published annotation script has it. No published file was at
hand when this was written.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import ndimage
from torch.nn import functional

from .depth import NEARER, RELATIVE, DepthMap, check_codes
from .errors import CheckpointError

STATED = (
    "what weights do not tell is taken as published: 4x4 convolutions have stride 2 and padding 1, ReLU follows each "
    "and the decoder's first one; a residual block is x + conv1x1(relu(conv3x3(relu(conv3x3(x)))))"
)
_NESTS = ("weights", "state_dict", "model")    # where files keep their tensors, if not at the top
_PARAMETER = re.compile(r"\.(weight|bias)$")


@dataclass(frozen=True)
class _Convolution:
    """name: of its weight without the suffix; weight: 4-D; bias: 1-D or None."""

    name: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    transposed: bool = False

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def inputs(self) -> int:
        return self.weight.shape[0 if self.transposed else 1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[1 if self.transposed else 0]


_Block = tuple[_Convolution, _Convolution, _Convolution]


class VqVaeDecoder:
    """Decodes codes by the network in a file. Errors: CheckpointError that names the tensor."""

    unit = RELATIVE

    def __init__(self, path: Path):
        tensors = _read(path)
        self.source = f"VQ-VAE {path.name}, relative"
        self._path = path
        stack = _Stack(tensors, "decoder", path)
        self._enter = stack.take("the convolution from the codebook", 1, None)
        channels = self._enter.outputs
        self._blocks = stack.take_blocks(channels)
        self._grow: list[_Convolution] = []
        while stack.next_kernel() == 4:
            self._grow.append(stack.take("a transposed convolution", 4, channels, transposed=True))
            channels = self._grow[-1].outputs
        self._leave = stack.take("the convolution to the image", 1, channels)
        stack.finish()
        if self._leave.outputs not in (1, 3):
            raise CheckpointError(
                f"{path}: the decoder must end with an image of 1 or 3 channels; "
                f"{self._leave.name} has {self._leave.outputs}"
            )
        self._codebook = _codebook(tensors, self._enter.inputs, path)

    def decode(self, codes: np.ndarray) -> DepthMap:
        """Relative depth, each side 2 ** (number of transposed convolutions) times that of the codes (rows, cols)."""
        grid = torch.from_numpy(check_codes(codes, self._codebook.shape[0]))
        with torch.inference_mode():
            x = self._codebook[grid].permute(2, 0, 1)[None]
            x = functional.relu(functional.conv2d(x, self._enter.weight, self._enter.bias))
            x = _through_blocks(x, self._blocks)
            for layer in self._grow:
                x = functional.relu(functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1))
            x = functional.conv2d(x, self._leave.weight, self._leave.bias)
            values = x[0].mean(dim=0).numpy()
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self._path}: the decoder gives values that are not finite")
        return DepthMap(values, RELATIVE, NEARER, (float(values.min()), float(values.max())), self.source)


class VqVaeEncoder:
    """Codes of depth images by the network in a file. Errors: CheckpointError that names the tensor."""

    def __init__(self, path: Path):
        tensors = _read(path)
        self._path = path
        stack = _Stack(tensors, "encoder", path)
        self._shrink = [stack.take("the convolution from the image", 4, 1)]
        while stack.next_kernel() == 4:
            self._shrink.append(stack.take("a convolution", 4, self._shrink[-1].outputs))
        self._blocks = stack.take_blocks(self._shrink[-1].outputs)
        self._leave = stack.take("the convolution to the codebook", 1, self._shrink[-1].outputs)
        stack.finish()
        self._codebook = _codebook(tensors, self._leave.outputs, path)

    @property
    def codes(self) -> int:
        return self._codebook.shape[0]

    def encode(self, depth: np.ndarray, side: int) -> np.ndarray | None:
        """Codes int16 (side * side,), row-major, of uint16 (h, w) distances in any unit, 0 where nothing was measured;
        None where all is so. Errors: CheckpointError where the network gives no number."""
        image = relative_image(depth, side * 2 ** len(self._shrink))
        if image is None:
            return None
        with torch.inference_mode():
            x = torch.from_numpy(image)[None, None] * 2.0 / 255.0 - 1.0
            for layer in self._shrink:
                x = functional.relu(functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1))
            x = _through_blocks(x, self._blocks)
            x = functional.conv2d(x, self._leave.weight, self._leave.bias)
            vectors = x[0].flatten(1).T
            apart = self._codebook.square().sum(1) - 2 * vectors @ self._codebook.T    # less what all entries share
        if not torch.isfinite(apart).all():
            raise CheckpointError(f"{self._path}: the encoder gives values that are not finite")
        return apart.argmin(dim=1).numpy().astype(np.int16)


def relative_image(depth: np.ndarray, size: int) -> np.ndarray | None:
    """Distances as the network knows depth: near is large, 0 .. 255 in whole numbers, float32 (size, size).

    What a relative depth network gives is the inverse of a distance, up to scale and offset. A pixel without a
    measurement takes the nearest measured pixel's. depth: uint16 (h, w), 0 where nothing was measured; None where that
    is everywhere.
    """
    missing = depth == 0
    if missing.all():
        return None
    if missing.any():
        rows, cols = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
        depth = depth[rows, cols]
    near = 1.0 / depth.astype(np.float64)
    low, high = near.min(), near.max()
    levels = np.floor((near - low) / (high - low) * 255.0) if high > low else np.zeros_like(near)
    row, col = ((np.arange(size) * n) // size for n in depth.shape)
    return levels[row][:, col].astype(np.float32)


def _through_blocks(x: torch.Tensor, blocks: list[_Block]) -> torch.Tensor:
    for first, second, third in blocks:
        y = functional.relu(functional.conv2d(x, first.weight, first.bias, padding=1))
        y = functional.relu(functional.conv2d(y, second.weight, second.bias, padding=1))
        x = x + functional.conv2d(y, third.weight, third.bias)
    return x


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
        raise CheckpointError(f"{path}: cannot be read as weights: {str(error) or type(error).__name__}") from None
    for key in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected tensors by name (a state_dict)")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{path}: {name} is a {type(value).__name__}, expected a tensor")
    return {str(name): value.float() for name, value in content.items()}


def _convolutions(tensors: dict[str, torch.Tensor], part: str, path: Path) -> Iterator[_Convolution]:
    """A part's convolutions in the order of the numbers in their names. Every tensor of the part is used."""
    names = [name for name in tensors if re.search(rf"(?:^|\.){part}\.", name)]
    if not names:
        raise CheckpointError(f"{path}: no tensor is named {part}.*; there are: {', '.join(list(tensors)[:8])} ...")
    layers = sorted({_PARAMETER.sub("", name) for name in names}, key=_natural)
    for layer in layers:
        weight = tensors.get(f"{layer}.weight")
        if weight is None or weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            shape = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
            raise CheckpointError(
                f"{path}: {layer}.weight is {shape}; the layout known here has square convolutions only. {STATED}"
            )
        yield _Convolution(layer, weight, tensors.get(f"{layer}.bias"))


def _natural(name: str) -> list[Any]:
    """Sorts decoder.10 behind decoder.9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]


class _Stack:
    """The layers of one part, taken from its beginning."""

    def __init__(self, tensors: dict[str, torch.Tensor], part: str, path: Path):
        self._part, self._path = part, path
        self._rest = list(_convolutions(tensors, part, path))

    def next_kernel(self) -> int:
        """0 at the end."""
        return self._rest[0].kernel if self._rest else 0

    def take(
        self, what: str, kernel: int, inputs: int | None, outputs: int | None = None, transposed: bool = False
    ) -> _Convolution:
        """The next layer. Errors: CheckpointError unless it is of this size; None: of any."""
        if not self._rest:
            raise CheckpointError(f"{self._path}: the {self._part} ends where {what} was expected. {STATED}")
        layer = replace(self._rest.pop(0), transposed=transposed)
        fits = layer.kernel == kernel and inputs in (None, layer.inputs) and outputs in (None, layer.outputs)
        if not fits or (layer.bias is not None and tuple(layer.bias.shape) != (layer.outputs,)):
            wanted = f"{inputs or 'any number'} to {outputs or 'any number of'} channels"
            raise CheckpointError(
                f"{self._path}: {layer.name} has shape {tuple(layer.weight.shape)}, "
                f"expected {what} ({kernel}x{kernel}, {wanted}). {STATED}"
            )
        return layer

    def take_blocks(self, channels: int) -> list[_Block]:
        blocks = []
        while self.next_kernel() == 3:
            parts = [self.take("a convolution of a residual block", size, channels, channels) for size in (3, 3, 1)]
            blocks.append((parts[0], parts[1], parts[2]))
        return blocks

    def finish(self) -> None:
        """Errors: CheckpointError where a layer is left."""
        if self._rest:
            raise CheckpointError(f"{self._path}: the {self._part} goes on where it should end: {self._rest[0].name}")


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
