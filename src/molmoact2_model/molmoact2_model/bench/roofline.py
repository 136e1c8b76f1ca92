# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The least time a device could take for each stage: the weights and the cache that must be read, and the products that
must be computed, against how fast this device copies and multiplies."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from ..config import ModelConfig
from ..footprint import block_weights

COPIED = 512 * 2**20    # bytes; more than the caches of common processors
SIDE, ROUNDS = 2048, 5


@dataclass(frozen=True)
class Rates:
    """bandwidth [bytes/s], read and written together; products [FLOP/s]; source: who says so; main [bytes/s]: from main
    memory to the device."""

    bandwidth: float
    products: float
    source: str
    main: float | None = None


def measure_rates(device: torch.device, dtype: torch.dtype, main: bool = False) -> Rates:
    """The best of a few rounds of one large copy and one large product, and of a copy from main memory if `main`."""
    source = torch.ones(COPIED // dtype.itemsize, dtype=dtype, device=device)
    goal = torch.empty_like(source)
    left, right = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    copying, multiplying = (
        min(_seconds(device, work) for _ in range(ROUNDS))
        for work in (lambda: goal.copy_(source), lambda: torch.mm(left, right))
    )
    rate = None
    if main:
        host = torch.ones(goal.shape, dtype=dtype, pin_memory=device.type == "cuda")
        rate = COPIED / min(_seconds(device, lambda: goal.copy_(host, non_blocking=True)) for _ in range(ROUNDS))
    return Rates(2 * COPIED / copying, 2 * SIDE**3 / multiplying, "measured in this run", rate)


def _seconds(device: torch.device, work) -> float:
    _finish(device)
    begin = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - begin


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Work:
    """What a stage must do at least: bytes to be read, FLOP to be computed, bytes to come from main memory."""

    bytes: float
    flop: float
    moved: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flop + other.flop, self.moved + other.moved)

    def times(self, count: float) -> Work:
        return Work(self.bytes * count, self.flop * count, self.moved * count)

    def least(self, rates: Rates) -> float:
        """Seconds."""
        return max(self.bytes / rates.bandwidth, self.flop / rates.products, self.moved / (rates.main or math.inf))


@dataclass(frozen=True)
class Shape:
    """What the amount of work depends on besides the checkpoint: cameras, tokens of the prompt, waypoints, flow
    evaluations; passes of depth reasoning, the tokens they read, and those of them that stay."""

    cameras: int
    prompt: int
    horizon: int
    evaluations: int
    passes: float = 0.0
    read: float = 0.0
    kept: float = 0.0


def work(
    config: ModelConfig, shape: Shape, size: int, block_size: float | None = None, offload: bool = False
) -> dict[str, Work]:
    """By stage. size: bytes of a number; block_size: of a weight of the language model's blocks, where another;
    offload: whether these come from main memory for each pass."""
    text, sizes = config.text, (size, size if block_size is None else block_size, offload)
    stages = {"vision": _vision(config, shape, size), "prefill": _language(config, shape.prompt, shape.prompt, *sizes)}
    if shape.passes:
        one = _language(config, shape.read / shape.passes, shape.prompt + shape.kept / 2, *sizes)
        head = text.vocab_size * text.hidden_size    # asked once, for the end of the codes
        stages["depth"] = one.times(shape.passes) + Work(head * size, 2 * head)
    if config.expert is not None:
        stages["expert"] = _expert(config, shape, size)
    return stages


def _language(config: ModelConfig, tokens: float, seen: float, size: int, block_size: float, offload: bool) -> Work:
    """One pass over `tokens` that attend to `seen`."""
    text, weights = config.text, block_weights(config.text)
    cache = 2 * text.num_layers * text.num_kv_heads * text.head_dim * seen
    attention = 4 * text.num_layers * text.num_heads * text.head_dim * seen * tokens
    moved = weights * block_size if offload else 0.0
    return Work(weights * block_size + cache * size, 2 * weights * tokens + attention, moved)


def _vision(config: ModelConfig, shape: Shape, size: int) -> Work:
    vision, adapter = config.vision, config.vision.adapter
    attended = 4 * vision.hidden_size * vision.num_heads * vision.head_dim
    tower = vision.num_layers * (attended + 2 * vision.hidden_size * vision.intermediate_size)
    patches = shape.cameras * vision.num_positions
    attention = 4 * vision.num_layers * vision.hidden_size * vision.num_positions * patches
    inputs = vision.hidden_size * len(vision.feature_layers)
    pooled = 2 * inputs * adapter["hidden_size"]    # keys and values, of every patch
    projected = 3 * adapter["intermediate_size"] * max(adapter["hidden_size"], adapter["text_hidden_size"])
    weights = tower + pooled + projected
    # A token for every four patches, as released.
    return Work(weights * size, 2 * (tower + pooled) * patches + attention + 2 * projected * patches / 4)


def _expert(config: ModelConfig, shape: Shape, size: int) -> Work:
    expert, text = config.expert, config.text
    assert expert is not None
    hidden, seen = expert.hidden_size, shape.prompt + shape.kept
    layer = 4 * hidden * hidden + 2 * hidden * hidden + 3 * hidden * expert.mlp_size
    weights, context = expert.num_layers * layer, 2 * expert.num_layers * hidden * seen
    attention = 4 * expert.num_layers * hidden * (seen + shape.horizon) * shape.horizon
    step = Work((weights + context) * size, 2 * weights * shape.horizon + attention)
    cached = 2 * text.num_kv_heads * text.head_dim
    projection = Work(
        (text.num_layers * cached * seen + cached * hidden) * size, 2 * text.num_layers * cached * hidden * seen
    )
    return step.times(shape.evaluations) + projection
