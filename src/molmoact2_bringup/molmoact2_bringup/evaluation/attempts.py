# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attempts at tasks, and what can be said of many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mujoco_driver.judge import LIMITS
from mujoco_driver.tabletop import RATE

AS_IT_IS = 0.0    # latency: as long as the inference takes
DECIMALS = 6      # of what is kept of films: micrometres and microradians


@dataclass(frozen=True)
class Condition:
    """Under what attempts are made. latency: from capture to arrival [s], AS_IT_IS: as it comes; joining, when_late: of
    the controller; depth: off, full, adaptive or verified; cache: the policy of the depth cache; disturbance: of the
    cameras; patience: how many times as long as an expert's an attempt may last."""

    task: str
    latency: float = AS_IT_IS
    joining: str = "splice"
    when_late: str = "hold"
    depth: str = "adaptive"
    cache: str = "bounded"
    disturbance: str = "none"
    patience: float = 1.0

    @property
    def first_try(self) -> float:
        """How long an expert's attempt may last [s]."""
        return LIMITS[self.task] / RATE

    @property
    def limit(self) -> float:
        """How long an attempt may last [s]."""
        return self.patience * self.first_try

    @property
    def unit(self) -> str:
        return "seconds"

    @property
    def name(self) -> str:
        latency = "latency as it is" if self.latency == AS_IT_IS else f"latency {self.latency:g} s"
        depth = f"depth {self.depth}" + (f" ({self.cache})" if self.depth == "adaptive" else "")
        parts = [self.task, latency, f"{self.joining}/{self.when_late}", depth]
        return ", ".join(parts + ([f"cameras: {self.disturbance}"] if self.disturbance != "none" else []))


@dataclass
class Attempt:
    """One try. seconds: of robot time until success or the end (in an environment, its steps); latencies: of accepted
    chunks, from capture to arrival [s]; inferences: what each inference took itself [s]; refreshed: share of depth
    cells generated anew in each inference after the first; steps: decoder steps of each inference; reason: why it
    failed, else empty; refused: chunks that the controller refused; withheld: inferences whose chunk was withheld, e.g.
    for a black camera; gap: the longest time for which the judge did not look [s]; dropped: time that the simulated
    world left out [s]; doubtful: gap or dropped were such that the judgement is; film: generalised positions of the
    scene, ten a second."""

    seed: int
    cube: str
    instruction: str
    success: bool = False
    seconds: float = 0.0
    reason: str = ""
    refused: int = 0
    withheld: int = 0
    gap: float = 0.0
    dropped: float = 0.0
    doubtful: bool = False
    latencies: list[float] = field(default_factory=list)
    inferences: list[float] = field(default_factory=list)
    refreshed: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    film: list[np.ndarray] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {**vars(self), "film": [np.round(qpos, DECIMALS).tolist() for qpos in self.film]}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Attempt:
        """The other way round."""
        return cls(**{**facts, "film": [np.array(qpos) for qpos in facts["film"]]})


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default (Wilson 1927); (0, 1) where nothing was tried."""
    if not count:
        return 0.0, 1.0
    share, square = successes / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(0.0, middle - half) if successes else 0.0, min(1.0, middle + half) if successes < count else 1.0


@dataclass(frozen=True)
class Compared:
    """The same scenes twice. change: by how much the share of successes rose; interval: Newcombe's for pairs, 95 %;
    same: scenes that ended the same way; scenes: how many."""

    change: float
    interval: tuple[float, float]
    same: int
    scenes: int


def compared(before: Mapping[int, bool], after: Mapping[int, bool]) -> Compared | None:
    """Of the scenes (by seed) that both have; None where there are none. (Newcombe 1998, Improved confidence intervals
    for the difference between binomial proportions based on paired data, method 10 without continuity correction)"""
    seeds = before.keys() & after.keys()
    count = len(seeds)
    if not count:
        return None
    both, neither = (sum(before[seed] == after[seed] == ended for seed in seeds) for ended in (True, False))
    lost, won = (sum(before[seed] is kept and after[seed] is not kept for seed in seeds) for kept in (True, False))
    one, other = (both + lost) / count, (both + won) / count
    (low, high), (other_low, other_high) = wilson(both + lost, count), wilson(both + won, count)
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    phi = (both * neither - lost * won) / math.sqrt(margins) if margins else 0.0
    change = other - one
    below, above = ((other - other_low, high - one), (other_high - other, one - low))
    reach = [math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)) for a, b in (below, above)]
    return Compared(change, (change - reach[0], change + reach[1]), both + neither, count)


class Named(Protocol):
    """A condition, as far as a summary needs it."""

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> str: ...

    @property
    def first_try(self) -> float | None: ...

    @property
    def limit(self) -> float | None: ...

    @property
    def unit(self) -> str:
        """Of an attempt's length: "seconds", or "steps" of an environment."""
        ...


def summary(condition: Named, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """What summary.json says of one condition."""
    successes = sum(attempt.success for attempt in attempts)
    low, high = wilson(successes, len(attempts))
    latencies = [latency for attempt in attempts for latency in attempt.latencies]
    inferences = [seconds for attempt in attempts for seconds in attempt.inferences]
    refreshed = [share for attempt in attempts for share in attempt.refreshed]
    steps = [step for attempt in attempts for step in attempt.steps]
    return {
        "condition": condition.name,
        "task": condition.task,
        "n": len(attempts),
        "successes": successes,
        "success": successes / len(attempts) if attempts else None,
        "interval": [low, high],
        "limit": condition.limit,
        "first_try": condition.first_try,
        "successes_at_first": _soon(condition, attempts),
        f"{condition.unit}_to_success": _mean([attempt.seconds for attempt in attempts if attempt.success]),
        "failures": dict(Counter(attempt.reason for attempt in attempts if not attempt.success).most_common()),
        "latency_p50": _percentile(latencies, 50),
        "latency_p95": _percentile(latencies, 95),
        "inference_p50": _percentile(inferences, 50),
        "inference_p95": _percentile(inferences, 95),
        "refreshed": _mean(refreshed),
        "decoder_steps": _mean(steps),
        "refused_chunks": sum(attempt.refused for attempt in attempts),
        "withheld_chunks": sum(attempt.withheld for attempt in attempts),
        "longest_gap": max((attempt.gap for attempt in attempts), default=0.0),
        "dropped_seconds": sum(attempt.dropped for attempt in attempts),
        "doubtful": [attempt.seed for attempt in attempts if attempt.doubtful],
    }


def _soon(condition: Named, attempts: Sequence[Attempt]) -> int | None:
    """Successes within the time that an expert has; None where nobody knows it."""
    if condition.first_try is None:
        return None
    return sum(attempt.success and attempt.seconds <= condition.first_try for attempt in attempts)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _percentile(values: Sequence[float], share: float) -> float | None:
    return float(np.percentile(values, share)) if values else None
