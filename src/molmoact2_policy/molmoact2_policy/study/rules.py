# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Adaptive depth by several rules beside full passes, over the same observations, code by code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import BackendError, Settings
from ..replay.rerun import RecordedClock
from .observations import Shown

BOUNDED, REFERENCE = "bounded", "reference"


@dataclass(frozen=True)
class Rule:
    """cache_policy: BOUNDED or REFERENCE; threshold: of the cells' similarity; period: a full pass at least every so
    many inferences, 0: only by cause."""

    cache_policy: str
    threshold: float
    period: int

    @property
    def family(self) -> str:
        """What it has in common with the rules of other thresholds."""
        if self.cache_policy == REFERENCE:
            return "reference's rule alone"
        return f"bounded, full pass every {self.period}" if self.period else "bounded"


@dataclass
class Course:
    """What one rule did, one entry for each observation.

    refreshed: share of the cells generated anew; stale: share of the cells whose code the rule kept and a full pass
    would change; differing: share of all cells whose code differs from the full pass; steps: of the decoder; causes: of
    forced full passes, empty where it was adaptive.
    """

    refreshed: list[float] = field(default_factory=list)
    stale: list[float] = field(default_factory=list)
    differing: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def add(self, reasoning: Any, full_codes: np.ndarray) -> None:
        differing = reasoning.codes != full_codes
        self.refreshed.append(float(reasoning.refreshed.mean()))
        self.stale.append(float((differing & ~reasoning.refreshed).mean()))
        self.differing.append(float(differing.mean()))
        self.steps.append(int(reasoning.decoder_steps))
        self.causes.append(str(reasoning.cause))

    def figures(self) -> dict[str, float]:
        return {
            "refreshed": float(np.mean(self.refreshed)),
            "stale": float(np.mean(self.stale)),
            "stale_worst": float(np.max(self.stale)),
            "differing": float(np.mean(self.differing)),
            "decoder_steps": float(np.mean(self.steps)),
            "forced": float(np.mean([bool(cause) for cause in self.causes])),
        }


class Study:
    """Shows each observation to a session of full passes and to one of each rule; all share the prefill.

    Errors: BackendError.
    """

    def __init__(self, settings: Settings, rules: Sequence[Rule]):
        from molmoact2_model import ModelError, MolmoAct2Policy, set_threads

        set_threads(settings.threads)
        self._failure, self._clock, self._episode = ModelError, RecordedClock(), ""
        try:
            policy = MolmoAct2Policy.from_pretrained(
                settings.checkpoint,
                device=settings.device,
                dtype=settings.dtype,
                base_checkpoint=settings.base_checkpoint or None,
                language_weights=settings.language_weights,
                offload=settings.offload,
            )
            opened = {"norm_tag": settings.norm_tag, "max_gap": settings.max_gap, "clock": self._clock}
            self._full = policy.session(depth="full", **opened)
            self._sessions = {
                rule: policy.session(
                    depth="adaptive",
                    cache_policy=rule.cache_policy,
                    similarity_threshold=rule.threshold,
                    full_refresh_every=rule.period or None,
                    beside=self._full,
                    **opened,
                )
                for rule in rules
            }
        except ModelError as error:
            raise BackendError(str(error)) from error
        self.full_steps: list[int] = []
        self.times: list[float] = []
        self.courses = {rule: Course() for rule in rules}

    def show(self, shown: Shown) -> None:
        assert shown.observation is not None
        images, state = list(shown.observation.images), shown.observation.model_state
        if shown.episode != self._episode:
            self._episode = shown.episode
            for session in self._sessions.values():
                session.reset()
        try:
            self._clock.tell(shown.now)
            full = self._full.reason(images, state, shown.instruction)
            for rule, session in self._sessions.items():
                self.courses[rule].add(session.reason(images, state, shown.instruction), full.codes)
        except self._failure as error:
            raise BackendError(f"{shown.name}: {error}") from error
        self.full_steps.append(full.decoder_steps)
        self.times.append(shown.now)
