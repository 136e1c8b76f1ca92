# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""ChunkScheduler: places chunks on the clock by their capture stamps and joins each to the one being executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .chunk import Chunk, ChunkRefused, Refusal
from .joining import RULES, Planned, cross_fade, fresh_path
from .path import Bounds, Path

FUTURE_TOLERANCE = 0.05    # [s]; clocks of two machines may differ by this much
WINDOWS = 4                # of the cross-fade that are tried, from the shortest to all of the chunk
MOST_CHUNKS = 16           # that an ensemble looks back on
LEAST_LEFT = 0.02          # [s] of a chunk; less cannot be joined smoothly
SHARES = (1.0, 0.6, 0.35)  # of the pace that the limits allow; tried in this order
MOST_EXCESS = 1.1          # times what a path may ask for of the limits on being entered, where no way asks for less
LEAST_WINDOW = 0.05        # [s] of a cross-fade


@dataclass(frozen=True)
class Joined:
    """How a chunk was joined.

    consumed: its waypoints that lay in the past already; seam_jump: the largest difference between the two chunks at
    the moment of joining, before blending [rad; grippers 0 .. 1]; latency [s] since capture; share: of the pace that
    the limits allow, at which it is to be run.
    """

    consumed: int
    seam_jump: float
    latency: float
    share: float


def _ways(old: Path, lag: float, fresh: Path, now: float, window: float) -> Iterator[tuple[Path, float]]:
    """Paths from the old one to the fresh one, and shares of the pace, the better first."""
    shortest = cross_fade(old, lag, fresh, now, window)
    yield shortest, SHARES[0]
    if fresh.end - now > window:
        for wider in np.geomspace(window, fresh.end - now, WINDOWS)[1:]:
            yield cross_fade(old, lag, fresh, now, float(wider)), SHARES[0]
    for share in SHARES[1:]:
        yield shortest, share


def _best(
    ways: Iterator[tuple[Path, float]], excess: Callable[[Path, float], float], error: Callable[[Path], str]
) -> tuple[Path, float]:
    """Path and share of the first way that asks for at most 1, else of the one that asks least, up to MOST_EXCESS; in
    either case of those that may be followed. Errors: ChunkRefused."""
    possible, wrong = list[tuple[float, Path, float]](), ""
    for path, share in ways:
        asked = excess(path, share)
        if asked > MOST_EXCESS:
            continue
        why_not = error(path)
        if why_not:
            wrong = wrong or why_not
        elif asked <= 1.0:
            return path, share
        else:
            possible.append((asked, path, share))
    if possible:
        _, path, share = min(possible, key=lambda way: way[0])
        return path, share
    if wrong:
        raise ChunkRefused(Refusal.WORKSPACE, wrong)
    raise ChunkRefused(Refusal.PACE, "it cannot be joined at the arm's present speed within the limits")


class ChunkScheduler:
    """Holds the path being executed, in clock time (ROS time in seconds).

    Path time runs with the clock or, where the safety gate slows it, behind it. max_age: of an observation, window: of
    the cross-fade, both in seconds. rule: one of joining.RULES.
    """

    def __init__(self, max_age: float, window: float, bounds: Bounds, rule: str = "splice"):
        self._max_age, self._window, self._bounds, self.rule = max_age, window, bounds, rule
        self.path: Path | None = None
        self.path_time = 0.0
        self.chunk_id, self.episode_id = 0, ""
        self.own_move = False    # the path is an operator's, of no chunk
        self._stamp = -np.inf
        self._chunks: list[Planned] = []
        self._waypoint_times = np.empty(0)

    def join(
        self,
        chunk: Chunk,
        waypoints: np.ndarray,
        command: np.ndarray,
        now: float,
        excess: Callable[[Path, float], float],
        error: Callable[[Path], str],
    ) -> Joined:
        """Makes a checked chunk the running one.

        waypoints: float64 (H, J), this arm's part of the chunk; command: the last setpoint (J,), for where there is no
        path; now: clock time. The new path begins at the last setpoint and goes over to the chunk within the window,
        both taken at the same clock time; a path that lags ends its lag with it. The window ends where the running path
        does, which has come to rest there. excess: how many times what the limits allow a path asks for, run from the
        present speed on at a share of the pace; where that is over 1, the window is made longer, up to the chunk's end,
        then the pace slower, and then the best of these is taken up to MOST_EXCESS. error: why a path must not be
        followed at all, empty where it may. Errors: ChunkRefused; the running path goes on then.
        """
        times = self._times(chunk, now)
        earlier = self._chunks if chunk.episode_id == self.episode_id else []
        chunks = [c for c in earlier if c.times[-1] > now][-MOST_CHUNKS:] + [Planned(times, waypoints)]
        fresh = fresh_path(chunks[-1], RULES[self.rule](chunks, now, self._bounds), now, self._bounds)
        lag = now - self.path_time if self.path is not None else 0.0
        old = self.path if self.path is not None else Path(np.array([now]), command[None])
        seam_jump = float(np.abs(fresh.sample(now) - command).max())
        left = old.end + lag - now
        window = min(self._window, max(left, LEAST_WINDOW)) if left > 0 else self._window
        path, share = _best(_ways(old, lag, fresh, now, window), excess, error)
        self.path, self.path_time, self._stamp, self.chunk_id = path, now, chunk.stamp, chunk.chunk_id
        self.own_move = False
        self._chunks, self._waypoint_times, self.episode_id = chunks, times, chunk.episode_id
        return Joined(int((times <= now).sum()), seam_jump, now - chunk.stamp, share)

    def _times(self, chunk: Chunk, now: float) -> np.ndarray:
        """Clock times of the waypoints. Errors: ChunkRefused for a stamp that is not to be followed."""
        if chunk.stamp <= 0:
            raise ChunkRefused(Refusal.STAMP, "its stamp is zero; the policy must stamp it with the time of capture")
        if chunk.stamp > now + FUTURE_TOLERANCE:
            raise ChunkRefused(
                Refusal.STAMP, f"its stamp is {chunk.stamp - now:.3f} s in the future; synchronise the machines' clocks"
            )
        if now - chunk.stamp > self._max_age:
            raise ChunkRefused(
                Refusal.STALE, f"it was observed {now - chunk.stamp:.3f} s ago, more than {self._max_age:g} s allowed"
            )
        times = chunk.stamp + (np.arange(chunk.horizon) + chunk.first_offset) * chunk.dt
        if times[-1] <= now:
            raise ChunkRefused(Refusal.PAST, f"its last waypoint was due {now - times[-1]:.3f} s ago")
        if times[-1] - now < LEAST_LEFT:
            left = times[-1] - now
            raise ChunkRefused(Refusal.PAST, f"its last waypoint is due in {left:.3f} s, too soon to be joined")
        if chunk.stamp <= self._stamp and not self.chunk_id:
            raise ChunkRefused(Refusal.OLDER, "it was observed before the arm was last armed, resumed or at rest")
        if chunk.stamp <= self._stamp:
            raise ChunkRefused(Refusal.OLDER, f"it was observed no later than running chunk {self.chunk_id}")
        return times

    def follow(self, path: Path, now: float) -> None:
        """Makes a path of the controller's own (home, park) the running one; chunks observed before are refused."""
        self.path, self.path_time, self.chunk_id, self.own_move, self._stamp = path, now, 0, True, now
        self._chunks, self._waypoint_times, self.episode_id = [], path.times, ""

    def clear(self) -> None:
        """Forgets the path. Chunks older than the last one stay refused."""
        self.path, self.chunk_id, self.episode_id, self.own_move = None, 0, "", False
        self._chunks, self._waypoint_times = [], np.empty(0)

    def shift(self, seconds: float) -> None:
        """ROS time jumped: what is being executed moves with it."""
        if self.path is not None:
            self.path.shift(seconds)
            self.path_time += seconds
        self._waypoint_times = self._waypoint_times + seconds
        self._chunks = [Planned(c.times + seconds, c.waypoints) for c in self._chunks]

    def refuse_until(self, now: float) -> None:
        """Chunks observed until `now`, clock time [s], are refused; after a clock jump that is another clock's."""
        self._stamp = now

    @property
    def waypoints_left(self) -> int:
        """Waypoints of the running chunk that lie ahead in path time."""
        return 0 if self.path is None else int((self._waypoint_times > self.path_time).sum())
