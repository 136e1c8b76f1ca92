# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How a new chunk takes over from the running one.

splice    The new chunk as it is, entered by a cross-fade at the same clock time. Costs nothing but the window, within
          which the arm follows neither chunk alone; where the chunks disagree, it moves through the mean of two plans.
rtc       The same cross-fade of a chunk that the policy has drawn to continue the running one (real-time chunking):
          there is little left to fade. Costs one backward pass of the expert per flow step, and a policy that reacts
          less within the frozen waypoints.
ensemble  The weighted mean of all chunks that reach a moment, the older the heavier (Zhao et al. 2023). Averages noise
          away, and with it decisions: where two chunks pass an obstacle on different sides, the mean runs into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .path import Bounds, Path

ENSEMBLE_DECAY = 0.01    # of the weight, from one chunk to the next
FADE_STEP = 0.02         # [s]; between knots within the cross-fade


@dataclass(frozen=True)
class Planned:
    """A chunk on the clock: times [s] (H,), waypoints float64 (H, J)."""

    times: np.ndarray
    waypoints: np.ndarray


Rule = Callable[[list[Planned], float, Bounds], np.ndarray]


def newest(chunks: list[Planned], now: float, bounds: Bounds) -> np.ndarray:
    """The newest chunk's own waypoints (H, J)."""
    return chunks[-1].waypoints


def ensemble(chunks: list[Planned], now: float, bounds: Bounds) -> np.ndarray:
    """At the newest chunk's times, the mean of every chunk that reaches them, oldest first and heaviest."""
    times = chunks[-1].times
    total, weight = np.zeros_like(chunks[-1].waypoints), np.zeros((len(times), 1))
    for index, chunk in enumerate(chunks):
        reached = (times >= chunk.times[0]) & (times <= chunk.times[-1])
        share = np.exp(-ENSEMBLE_DECAY * index) * reached[:, None]
        total += share * Path.through(chunk.times, chunk.waypoints, bounds).sample(times)
        weight += share
    return total / weight


RULES: dict[str, Rule] = {"splice": newest, "rtc": newest, "ensemble": ensemble}


def fresh_path(chunk: Planned, waypoints: np.ndarray, now: float, bounds: Bounds) -> Path:
    """The path of a chunk, from `now` on where its first waypoint lies ahead."""
    path = Path.through(chunk.times, waypoints, bounds)
    if now >= path.start or len(chunk.times) < 2:
        return path
    before = waypoints[0] - (path.start - now) * path.sample(path.start, 1)
    first = np.clip(before, *bounds)
    return Path.through(np.concatenate([[now], chunk.times]), np.concatenate([first[None], waypoints]), bounds)


def cross_fade(old: Path, lag: float, fresh: Path, now: float, window: float) -> Path:
    """From the old path, read `lag` seconds late, to the fresh one, which ends later than now, within `window` seconds.

    The weight rises by a quintic, whose first and second derivatives vanish at both ends: neither velocity nor
    acceleration steps.
    """
    until = min(now + window, fresh.end)
    fade = np.linspace(now, until, max(int(np.ceil((until - now) / FADE_STEP)), 1) + 1)
    own = fresh.times > until + 1e-6
    x = (fade - now) / (until - now)
    weight = (x**3 * (10 - 15 * x + 6 * x**2))[:, None]
    growth = (30 * x**2 * (1 - x) ** 2)[:, None] / (until - now)
    before, after = old.sample(fade - lag), fresh.sample(fade)
    positions = (1 - weight) * before + weight * after
    velocities = (
        (1 - weight) * old.sample(fade - lag, 1) + weight * fresh.sample(fade, 1) + growth * (after - before)
    )
    return Path(
        np.concatenate([fade, fresh.times[own]]),
        np.concatenate([positions, fresh.positions[own]]),
        np.concatenate([velocities, fresh.velocities[own]]),
    )
