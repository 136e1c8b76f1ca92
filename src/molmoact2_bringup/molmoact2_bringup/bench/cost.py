# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What real-time chunking costs: the time of one inference, plain and guided, turn by turn in one run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molmoact2_policy.backend import Backend
from molmoact2_policy.continuity import Prefix
from molmoact2_policy.model_frame import ModelFrame

from .motion import Bench, Progress

ROUNDS = 25
FROZEN = 10    # waypoints that are over before the chunk can arrive


@dataclass(frozen=True)
class Cost:
    """Medians [s]: of the whole inference, and of its part in the flow expert."""

    name: str
    total: float
    expert: float


def costs(bench: Bench, cheap: Backend, progress: Progress = lambda: None) -> list[Cost]:
    """Plain, by gradient, and cheap. The bench's backend guides by gradient, `cheap` puts the frozen waypoints back.

    All see the same state and continue the same chunk; each inference has a picture of its own, so that none reuses
    what another has seen.
    """
    home = bench.contract.values("home")
    state = ModelFrame(bench.contract, bench.tag).to_model(home)
    running = bench.infer(home, 0)[FROZEN:]
    prefix = Prefix(running, FROZEN, len(running))
    ways = {"plain": (bench.backend, None), "rtc gradient": (bench.backend, prefix), "rtc replace": (cheap, prefix)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    generator = np.random.default_rng(1)
    for number in range(ROUNDS + 1):
        for name, (backend, running) in ways.items():
            frames = [generator.integers(0, 255, frame.shape, dtype=np.uint8) for frame in bench.frames]
            timings = backend.infer(frames, state, bench.instruction, number, running).trace.timings
            if number:    # the first is slow for each of them
                times[name].append((timings["total"], timings["expert"]))
        progress()
    return [Cost(name, *(float(value) for value in np.median(found, axis=0))) for name, found in times.items()]
