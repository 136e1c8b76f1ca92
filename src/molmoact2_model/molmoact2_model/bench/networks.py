# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Policies to measure: a checkpoint's, or one with random weights of the released sizes. Nothing is downloaded."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn

from ..blueprint import Blueprint, close_depth_tokens, make_config, make_tokenizer, write_files
from ..checkpoint import Network, build_network, placing, quantizing, save_weights
from ..config import ModelConfig
from ..engine_options import NO_OFFLOAD, STORED
from ..errors import InputError
from ..images import load_image_config
from ..normalization import NormStats
from ..optimizations import Optimizations
from ..policy import MolmoAct2Policy

# The sizes of the released checkpoints. Only the tokenizer is another (bytes, with a few phrases), so that prompts are
# about as long; its vocabulary is filled up to the released one, so that the head is as large.
RELEASED = Blueprint(
    hidden_size=2560, num_layers=36, num_heads=32, num_kv_heads=8, head_dim=128, intermediate_size=9728,
    vit_hidden_size=1152, vit_layers=27, vit_heads=16, vit_intermediate_size=4304, vit_feature_layers=(-3, -9),
    adapter_intermediate_size=9728, expert_hidden_size=768, expert_heads=8, expert_time_dim=256,
    image_size=(378, 378), num_action_tokens=2048, max_positions=36864, vocab_multiple=154624,
    phrases=(
        "user\nThe task is to ", ". The setup is ", "single arm", ". The current state of the robot is ",
        ". The expected control mode is ", "absolute joint pose", "pick up the red cube",
        "Given these, what action should the robot take to complete the task?",
        "Given these, first predict the depth map of the main image and then predict the action the robot should "
        "take to complete the task?", "assistant\n", "Image ",
    ),
)  # fmt: skip
SMALL = Blueprint()
MEDIUM = replace(
    SMALL, hidden_size=512, num_layers=8, num_heads=8, num_kv_heads=4, head_dim=64, intermediate_size=1536,
)    # fmt: skip
SIZES = {"released": RELEASED, "medium": MEDIUM, "small": SMALL}
TAG, JOINTS = "bench", 7
_BLOCK, _STRIDE = 1 << 20, 123457    # draws, and how many of them lie between the beginnings of two tensors


def norm_stats() -> dict[str, Any]:
    """One arm of seven joints. Nothing is scaled, hence nothing clipped: errors of actions show in full."""
    stats = {"mean": [0.0] * JOINTS, "mask": [True] * JOINTS}
    tag = {
        "camera_keys": [], "action_horizon": 30, "n_action_steps": 30, "setup_type": "single arm",
        "control_mode": "absolute joint pose", "state_stats": stats, "action_stats": stats,
    }  # fmt: skip
    return {"format": "molmoact2_norm_stats.v1", "norm_mode": "none", "metadata_by_tag": {TAG: tag}}


def released_config(blueprint: Blueprint) -> ModelConfig:
    """The configuration of a blueprint, without weights."""
    return ModelConfig.from_dict(make_config(blueprint, *make_tokenizer(blueprint)))


def random_policy(
    size: str, device: torch.device, dtype: torch.dtype, optimizations: Optimizations, language_weights: str = STORED,
    offload: str = NO_OFFLOAD,
) -> MolmoAct2Policy:
    """Weights drawn from a seed, of one of SIZES."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, tokenizer = _describe(folder, size)
        images = load_image_config(folder, config.vision)
        stats = NormStats.from_file(folder / "norm_stats.json", config.max_action_dim, config.max_action_horizon)
    network = fill(build_network(config, device, dtype), 0, language_weights, offload)
    return MolmoAct2Policy(network, images, stats, tokenizer, random_name(size), optimizations)


def random_name(size: str) -> str:
    return f"random weights, {size} size"


def write_random(folder: Path, size: str, dtype: torch.dtype) -> None:
    """The checkpoint of `random_policy`, weights stored in `dtype`. In main memory it needs twice its size meanwhile.
    Errors: InputError."""
    config, _ = _describe(folder, size)
    network = fill(build_network(config, torch.device("cpu"), dtype), 0)
    try:
        save_weights(network, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the random weights cannot be written into {folder}, which another implementation is to read them from: "
            f"{error}; let TMPDIR name a folder with more room, or take a smaller --random"
        ) from None


def _describe(folder: Path, size: str) -> tuple[ModelConfig, Tokenizer]:
    """Writes all of a checkpoint but the weights."""
    blueprint = SIZES[size]
    tokenizer, vocabulary = make_tokenizer(blueprint)
    raw = make_config(blueprint, tokenizer, vocabulary)
    write_files(folder, blueprint, raw, tokenizer, norm_stats())
    return ModelConfig.from_dict(raw), tokenizer


def fill(network: Network, seed: int, language_weights: str = STORED, offload: str = NO_OFFLOAD) -> Network:
    """Random weights as of blueprint.random_network, but of the network's own device and type, and drawn once and
    repeated, from another place on for each tensor: billions of draws would take longer than what is measured."""
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal(_BLOCK - 3, np.float32))
    roots: list[nn.Module] = [network.vlm, network.gates, *([network.expert] if network.expert is not None else [])]
    place, quantize = placing(network, offload), quantizing(network, language_weights)
    for module in [child for root in roots for child in root.modules()]:
        table = isinstance(module, nn.Embedding)
        for name, parameter in list(module.named_parameters(recurse=False)):
            drawn = drawn.roll(_STRIDE)
            value = _filled(name, parameter, table, drawn.to(place(module)), network.dtype)
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        quantize(module)
    if network.config.depth is not None:
        close_depth_tokens(network, network.config, 4.0 * (network.config.text.hidden_size / 64) ** 0.5)
    return network


def _filled(name: str, like: torch.Tensor, table: bool, drawn: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if like.ndim == 1:
        return torch.full(like.shape, float(name == "weight"), device=drawn.device, dtype=dtype)
    scaled = (drawn if table else drawn * like.shape[-1] ** -0.5).to(dtype)
    return scaled.repeat(-(-like.numel() // scaled.numel()))[: like.numel()].view(like.shape).clone()

