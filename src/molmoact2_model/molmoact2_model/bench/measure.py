# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Runs what is compared over the same calls, in turn, so that whatever else the machine does falls on all alike.
Another begins each turn."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ..engine_options import EULER
from ..errors import InputError
from ..footprint import held
from ..normalization import TagStats
from ..optimizations import Optimizations
from ..policy import MolmoAct2Policy
from .heights import GpuMemory, allocated
from .scenes import Load, View, chosen, views, wrong_draft

INSTRUCTION = "pick up the red cube"
STAGES = ("preprocess", "vision", "prefill", "depth", "expert", "post")
SEED = 5


@dataclass(frozen=True)
class Answer:
    """One call: actions (T, D) in the model's range, codes (cells,) or empty; seconds by stage with "total"; tokens of
    the prompt; passes of the language model after it and the tokens they read; how many codes were generated anew,
    None: not known."""

    actions: np.ndarray
    codes: np.ndarray
    seconds: Mapping[str, float]
    prompt: int = 0
    passes: int = 0
    tokens_read: int = 0
    refreshed: int | None = 0


class Runner(Protocol):
    """What is measured. draft: codes to take for the last call's ("verified"), else None. network: whose weights it
    computes with, which others may share; weights: bytes of them on the device."""

    name: str
    network: Any
    weights: float

    def open(self, load: Load) -> None:
        """Begins anew. Errors: InputError for a load it cannot do."""

    def close(self) -> None:
        """Gives back what was kept for the load."""

    def __call__(self, view: View, noise: np.ndarray, draft: np.ndarray | None) -> Answer: ...


class EngineRunner:
    """Our engine with some optimisations."""

    def __init__(
        self, name: str, policy: MolmoAct2Policy, tag: str, optimizations: Optimizations, steps: int,
        solver: str = EULER, clock: Callable[[], float] = time.perf_counter, draft: bool = False,
    ):    # fmt: skip
        """draft: of adaptive depth."""
        self.name, self._policy, self._optimizations = name, policy, optimizations
        self._tag, self._steps, self._solver, self._clock = policy.stats.tag(tag), steps, solver, clock
        self._draft, self.network, self.weights = draft, policy.network, sum(held(policy.network).values())
        self._session: Any = None

    def close(self) -> None:
        self._session = None

    def open(self, load: Load) -> None:
        self._session = self._policy.session(
            norm_tag=self._tag.tag, depth=load.depth, cache_policy="reference", solver=self._solver,
            optimizations=self._optimizations, draft=self._draft and load.depth == "adaptive",
        )  # fmt: skip
        self._session.stage_clock = self._clock

    def __call__(self, view: View, noise: np.ndarray, draft: np.ndarray | None) -> Answer:
        if draft is not None:
            self._session.expect(draft)
        result = self._session.infer(view.images, view.state, INSTRUCTION, num_steps=self._steps, noise=noise)
        trace, actions = result.trace, self._tag.action.normalize(result.actions)
        prompt, engine = trace.input_ids.size - trace.generated_token_ids.size, self._session.engine
        return Answer(
            actions, trace.depth_codes, trace.timings, prompt, engine.passes, engine.tokens_read,
            int(trace.refreshed.sum()),
        )  # fmt: skip


# What the user's function returns: (images, state, instruction, noise, depth) -> actions (T, D) in physical units, and
# depth codes (cells,) or None. For depth "adaptive" it remembers the last call by itself, until its attribute `reset`,
# where it has one, is called: before each load. Its attribute `depths`, where it has one, names the modes that it can
# do; without one, those of GivenRunner.
Predict = Callable[..., tuple[np.ndarray, np.ndarray | None]]


class GivenRunner:
    """An implementation of the user's own. It is timed from outside, so there is a total and no stages.

    Beside our "verified", which it does not have, it runs its "adaptive" over the same frames.
    """

    DEPTHS = ("off", "full", "adaptive")

    def __init__(self, path: str, predict: Predict, tag: TagStats, clock: Callable[[], float], weights: float = 0.0):
        self.network, self.weights = self, weights
        self.name, self._path, self._predict, self._tag, self._clock = path, path, predict, tag, clock
        self._depth, self._depths = "off", tuple(getattr(predict, "depths", self.DEPTHS))

    def open(self, load: Load) -> None:
        depth, self.name = "adaptive" if load.depth == "verified" else load.depth, self._path
        if depth not in self._depths:
            raise InputError(f"it has depth {', '.join(self._depths)}, not {depth}")
        self._depth = depth
        getattr(self._predict, "reset", lambda: None)()
        if depth != load.depth:
            self.name = f"{self._path}, {depth}"

    def close(self) -> None:
        """It remembers what it will."""

    def __call__(self, view: View, noise: np.ndarray, draft: np.ndarray | None) -> Answer:
        begin = self._clock()
        actions, codes = self._predict(view.images, view.state, INSTRUCTION, noise, self._depth)
        seconds = self._clock() - begin
        codes = np.empty(0, np.int64) if codes is None else np.asarray(codes)
        normalized = self._tag.action.normalize(np.asarray(actions, np.float32))
        return Answer(normalized, codes, {"total": seconds}, refreshed=None)


def find_given(path: str) -> Callable[..., Predict]:
    """path: module:function. Errors: InputError."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--against {path}: {error}; expected module:function, importable from here") from None


def load_given(
    path: str, checkpoint: str, device: str, dtype: str, tag: TagStats, steps: int, clock: Callable[[], float]
) -> GivenRunner:
    """What `path` names is called with checkpoint, device, dtype, norm_tag and num_steps, and returns a Predict that
    waits for its device. Errors: InputError."""
    before = allocated(torch.device(device))
    predict = find_given(path)(checkpoint=checkpoint, device=device, dtype=dtype, norm_tag=tag.tag, num_steps=steps)
    return GivenRunner(path, predict, tag, clock, allocated(torch.device(device)) - before)


@dataclass
class Row:
    """One runner under one load."""

    name: str
    load: Load
    answers: list[Answer] = field(default_factory=list)
    really_changed: list[int] = field(default_factory=list)
    error: float = 0.0    # largest difference of an action to the first row's, in the model's range
    rms: float = 0.0
    codes_differ: float = 0.0    # share of the codes that are not the first row's, at most in a call
    differing: list[float] = field(default_factory=list)    # the same of each call
    heights: list[float] = field(default_factory=list)    # bytes of a GPU, of each call, also of those not counted

    def seconds(self, stage: str, fastest: bool = False) -> float | None:
        """The median over the calls, or the least: on a busy machine nearer to what an idle one takes."""
        found = [answer.seconds[stage] for answer in self.answers if stage in answer.seconds]
        return float(min(found) if fastest else np.median(found)) if found else None

    def mean(self, key: str) -> float:
        return float(np.mean([getattr(answer, key) for answer in self.answers]))


def compare(
    runners: Sequence[Runner], load: Load, shape: Measured, calls: int, left_out: Callable[[str], None] = print,
    gpu: GpuMemory | None = None,
) -> list[Row]:
    """One row for each runner that can do the load; the first is what the others' results are compared with. A call
    of each goes ahead and is not counted; with drafts one of each view, to know the codes that are right. left_out: is
    told of each other that cannot do it; gpu: measures its memory. Errors: InputError where the first cannot."""
    gpu = gpu or GpuMemory(torch.device("cpu"))
    rows: list[Row] = []
    opened: list[Runner] = []
    for runner in runners:
        try:
            with gpu.opening(runner):
                runner.open(load)
        except InputError as error:
            if not opened:
                raise
            left_out(f"{load.label}: {runner.name} is left out: {error}")
            continue
        opened.append(runner)
        rows.append(Row(runner.name, load))
    shown = views(shape.cameras, shape.state_dim, shape.grid, load.changed, SEED)
    noise = np.random.default_rng(SEED).standard_normal((shape.horizon, shape.max_action_dim)).astype(np.float32)
    truths: dict[int, np.ndarray] = {}
    gc.collect()
    gc.disable()    # a collection would fall on whoever is measured then
    try:
        for call in range(-2 if load.depth == "verified" else -1, calls):
            turn, draft = call % 2, None
            if load.depth == "verified" and turn in truths:
                cells = chosen(load.changed, shape.grid, SEED + call)
                draft = wrong_draft(truths[turn], cells, shape.codebook, SEED + call)
            found: dict[int, Answer] = {}
            for place in range(len(opened)):
                index = (place + call) % len(opened)    # none is always the first
                with gpu.calling(opened[index], rows[index].heights):
                    found[index] = opened[index](shown[turn], noise, draft)
            answers = [found[index] for index in range(len(opened))]
            if answers and answers[0].codes.size and load.depth == "verified":
                truths[turn] = answers[0].codes
            if call >= 0:
                _count(rows, answers, draft)
    finally:
        gc.enable()
        for runner in opened:
            runner.close()
    return [row for row in rows if row.answers]


def _count(rows: Sequence[Row], answers: Sequence[Answer], draft: np.ndarray | None) -> None:
    first = answers[0]
    for row, answer in zip(rows, answers, strict=True):
        row.answers.append(answer)
        difference = np.abs(answer.actions - first.actions)
        row.error = max(row.error, float(difference.max()))
        row.rms = max(row.rms, float(np.sqrt((difference**2).mean())))
        if answer.codes.size and answer.codes.shape == first.codes.shape:
            row.differing.append(float((answer.codes != first.codes).mean()))
            row.codes_differ = max(row.differing)
        if answer.refreshed is not None:
            row.really_changed.append(answer.refreshed if draft is None else int((answer.codes != draft).sum()))


@dataclass(frozen=True)
class Measured:
    """What a checkpoint, a tag and the number of cameras make of a call."""

    cameras: int
    state_dim: int
    grid: tuple[int, int]
    codebook: int
    horizon: int
    max_action_dim: int


def measured(policy: MolmoAct2Policy, tag: str, cameras: int) -> Measured:
    config, stats = policy.config, policy.stats.tag(tag)
    depth = config.depth
    return Measured(
        cameras, stats.state.dim, depth.grid if depth else (10, 10), depth.codebook_size if depth else 1,
        stats.horizon, config.max_action_dim,
    )  # fmt: skip


def weights(policy: MolmoAct2Policy) -> dict[str, float]:
    """MiB by part of the network."""
    return {part: count / 2**20 for part, count in held(policy.network).items()}
