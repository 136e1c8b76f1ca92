# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From a changed scene to changed motion: two runs that are alike but for the scene, and when their setpoints part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .motion import DISPLACED, Bench, Progress
from .trace import Case

CHANGES = (7, 8)     # numbers of the observations that are the first to show the change, one in each run
CHUNKS = 9           # of each run
NOTICED = 0.01       # share of the displacement by which a setpoint must differ


@dataclass(frozen=True)
class Reaction:
    """What one change of the scene did. between [s]: from the last observation before it to the first after it.

    first, half [s]: from that first observation to the first setpoint that differs, and to the one that differs by half
    of the displacement; infinite where none does. When between the two observations the scene changed makes no
    difference to the run, so the reaction takes at best `first`, at worst all of `between` longer. difference (N,): of
    setpoints, from the observation before the change on, as shares of the displacement, hz to the second.
    """

    hz: float
    between: float
    first: float
    half: float
    difference: np.ndarray


def reactions(bench: Bench, case: Case, progress: Progress = lambda: None) -> list[Reaction]:
    """One for each of CHANGES."""
    alike = bench.run(case, CHUNKS, progress)
    found = []
    for number in CHANGES:
        changed = bench.run(case, CHUNKS, progress, changed_from=number)
        parted = np.abs(changed.setpoints - alike.setpoints)[:, bench.displaced] / DISPLACED
        before, seen = alike.captures[number - 2 : number]
        first, half = ((_first(parted > share) - seen) / alike.hz for share in (NOTICED, 0.5))
        found.append(Reaction(alike.hz, (seen - before) / alike.hz, first, half, parted[before:]))
    return found


def mean(found: list[Reaction], which: str) -> float:
    """Over all moments at which the scene may change [s]. which: "first" or "half"."""
    return float(np.mean([getattr(r, which) + r.between / 2 for r in found]))


def worst(found: list[Reaction], which: str) -> float:
    """Where the scene changes just after an observation [s]. which: "first" or "half"."""
    return max(getattr(r, which) + r.between for r in found)


def latest_arrival(case: Case, length: float, upstream: bool) -> float:
    """The longest time from a change to the arrival of the first chunk that knows of it [s]. length: H.

    A change just after an observation waits for the next one, which upstream takes only when a chunk has been played.
    """
    return case.latency + (case.latency + length if upstream else case.latency / case.in_flight)


def _first(where: np.ndarray) -> float:
    return float(np.argmax(where)) if where.any() else math.inf
