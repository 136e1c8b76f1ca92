# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames, as far as numpy suffices: the checkpoint's image settings, and checks on frames (image_fault too)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molmoact2_contract.image_fault import image_fault as image_fault

from .config import VisionConfig, read_json
from .errors import CheckpointError, InputError


def check_images(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the frames as contiguous arrays, copied only where they are not so; they may be read-only. InputError
    unless all are uint8 (H, W, 3)."""
    if isinstance(images, np.ndarray) or not isinstance(images, Sequence):
        raise InputError(
            f"images is a {type(images).__name__}, expected a list of uint8 (H, W, 3) RGB arrays"
        )
    if not images:
        raise InputError("no image was given; the model needs at least the main camera's")
    for index, image in enumerate(images):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            kind = getattr(image, "dtype", type(image).__name__)
            raise InputError(f"image {index} is {kind}, expected a numpy array of uint8")
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(f"image {index} has shape {image.shape}, expected (height, width, 3) RGB")
    return [np.require(image, requirements=["C"]) for image in images]


@dataclass(frozen=True)
class ImageConfig:
    """How a camera frame becomes patches and tokens (spec section 3.1 and 3.2)."""

    height: int
    width: int
    patch_size: int
    pooling: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    use_col_tokens: bool

    @property
    def patch_grid(self) -> tuple[int, int]:
        return self.height // self.patch_size, self.width // self.patch_size

    @property
    def token_grid(self) -> tuple[int, int]:
        """Pooling windows per image, rows and columns; the last ones may be padded."""
        (rows, cols), (high, wide) = self.patch_grid, self.pooling
        return -(-rows // high), -(-cols // wide)


def load_image_config(folder: Path, vision: VisionConfig) -> ImageConfig:
    """Reads the image settings of either file generation: nested in processor_config.json (transformers 5),
    or preprocessor_config.json beside processor_config.json (transformers 4.57)."""
    outer = (
        read_json(folder / "processor_config.json") if (folder / "processor_config.json").is_file() else {}
    )
    name = "processor_config.json: image_processor"
    inner = outer.get("image_processor")
    if inner is None:
        name, inner = "preprocessor_config.json", read_json(folder / "preprocessor_config.json")
    for key, wanted in (("crop_mode", "resize"), ("resample", 2)):
        if inner.get(key) != wanted:
            raise CheckpointError(
                f"{name}: {key} is {inner.get(key)!r}; only {wanted!r} is supported by this engine"
            )
    use_col = outer.get("use_single_crop_col_tokens")
    if use_col is None:
        use_col = outer.get("image_use_col_tokens", True)
    try:
        config = ImageConfig(
            height=int(inner["size"]["height"]),
            width=int(inner["size"]["width"]),
            patch_size=int(inner["patch_size"]),
            pooling=(int(inner["pooling_size"][0]), int(inner["pooling_size"][1])),
            mean=_channels(inner["image_mean"]),
            std=_channels(inner["image_std"]),
            use_col_tokens=bool(use_col),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{name} lacks or garbles {error}; size, patch_size, pooling_size, image_mean and "
            "image_std are needed"
        ) from None
    _check_image_config(config, vision, name)
    return config


def _channels(value: Any) -> tuple[float, ...]:
    values = tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),) * 3
    if len(values) != 3:
        raise ValueError(f"{len(values)} channel values")
    return values


def _check_image_config(config: ImageConfig, vision: VisionConfig, name: str) -> None:
    if config.patch_size != vision.patch_size:
        raise CheckpointError(
            f"{name}: patch_size is {config.patch_size}, config.json says {vision.patch_size}"
        )
    rows, cols = config.patch_grid
    if rows * config.patch_size != config.height or cols * config.patch_size != config.width:
        raise CheckpointError(
            f"{name}: {config.height}x{config.width} is not a whole number of {config.patch_size} px patches"
        )
    if rows * cols != vision.num_positions:
        raise CheckpointError(
            f"{name}: {config.height}x{config.width} gives {rows * cols} patches, but the image transformer "
            f"has {vision.num_positions} positions (config.json: vit_config.image_num_pos)"
        )
