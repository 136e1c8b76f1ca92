# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The expert's evaluation by torch.compile, with the plain one to fall back on. Off unless `Optimizations.compiled`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from .expert import KeyValues
from .fused import Tables
from .fused_expert import FusedContext, FusedExpert, FusedModulations

BACKEND = "inductor"    # of torch.compile; tests, which have no time for a compiler, take another
# How far a velocity may be from the plain one's, of the largest and at least of 1: sums are taken in another order.
FURTHEST = 1e-5
ROUNDINGS = 4    # of a type that is coarser

log = logging.getLogger(__name__)


class CompiledExpert:
    """What FusedExpert computes. It compiles when it is first called, and does not answer from what it compiled unless
    that gave the plain result: of the first call, and of the first with each other number of waypoints. remark: why it
    does not; empty while it does.

    Derivatives (a chunk that continues the running one by "gradient") are always computed plainly. May be shared.
    """

    def __init__(self, expert: FusedExpert):
        self.expert, self.remark = expert, ""
        self._step: Callable[..., torch.Tensor] | None = None
        self._compared: set[torch.Size] = set()    # shapes of actions, each of which is compiled anew

    @property
    def dtype(self) -> torch.dtype:
        return self.expert.dtype

    def context(self, key_values: KeyValues, visible: torch.Tensor) -> FusedContext:
        return self.expert.context(key_values, visible)

    def modulations(self, time: torch.Tensor) -> FusedModulations:
        return self.expert.modulations(time)

    def rope(self, length: int) -> Tables | None:
        return self.expert.rope(length)

    def __call__(
        self, actions: torch.Tensor, context: FusedContext, modulations: FusedModulations, rope: Tables | None
    ) -> torch.Tensor:
        """As of FusedExpert."""
        if self.remark or actions.requires_grad:
            return self.expert(actions, context, modulations, rope)
        if self._step is None or actions.shape not in self._compared:
            return self._first(actions, context, modulations, rope)
        try:
            return self._step(actions, context.keys, context.values, modulations, rope)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._give_up(_words(error))
            return self.expert(actions, context, modulations, rope)

    def _first(self, actions: torch.Tensor, context: FusedContext, *others: Any) -> torch.Tensor:
        """Compiles, and compares; answers plainly."""
        wanted = self.expert(actions, context, *others)
        try:
            step = self._step or torch.compile(self._whole, backend=BACKEND)
            for states in (context.keys, context.values):    # of any number of tokens, or each would be compiled for
                torch._dynamo.mark_dynamic(states, 2)
            found = step(actions, context.keys, context.values, *others)
        except Exception as error:    # whatever a compiler throws; what is the expert's own was thrown above
            self._give_up(_words(error))
            return wanted
        off = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
        furthest = max(FURTHEST, ROUNDINGS * torch.finfo(wanted.dtype).eps if wanted.dtype != torch.float32 else 0.0)
        if off <= furthest:
            self._step = step
            self._compared.add(actions.shape)
        else:    # not a number is no such number, either
            self._give_up(f"its result is {off:.2g} from the plain one, more than {furthest:.2g}")
        return wanted

    def _whole(
        self, actions: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *others: Any
    ) -> torch.Tensor:
        return self.expert(actions, FusedContext(keys, values), *others)

    def _give_up(self, why: str) -> None:
        self.remark = f"optimisation compiled: the plain expert runs, because {why}"
        log.warning(self.remark)


def _words(error: Exception) -> str:
    """The first line of what a compiler says, which may be pages."""
    return f"torch.compile failed: {next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]}"
