# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""When the next inference must begin, and which running chunk its chunk has to continue. No ROS here."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

TAIL = 0.95            # share of latencies that the forecast covers
FORGET = 0.98          # weight of a latency against the one after it: halves in about 34 inferences
GUIDED = "rtc"         # ControllerStatus.joining of a controller whose chunks shall continue each other
RECENT = 20            # chunks whose consumed waypoints make the forecast of the next
MOST_FROZEN = 1.5      # times the forecast of the latency; no more waypoints are taken to be over when a chunk arrives


def least_loss(latency: float, length: float, in_flight: int = 1) -> float:
    """The least share of time, 0 .. 1, that motion loses to the latency L [s] of chunks of length H [s].

    With k requests in flight a chunk comes every L / k and brings H - L of motion that is still ahead, so the share is
    1 - k (H - L) / L: (2 L - H) / L for one at a time, and none while L + L / k <= H.
    """
    return min(max(0.0, 1.0 - in_flight * (length - latency) / latency), 1.0)


class LatencyForecast:
    """A high percentile of the latency from capture to arrival, which forgets slowly. Not thread-safe.

    The first latency after a start or a reset is left out: caches are cold then.
    """

    def __init__(self) -> None:
        self._latencies: deque[float] = deque(maxlen=int(np.log(0.01) / np.log(FORGET)))
        self._cold = True

    def cold_start(self) -> None:
        """The next latency will not be typical."""
        self._cold = True

    def add(self, latency: float) -> None:
        if self._cold:
            self._cold = False
        else:
            self._latencies.append(latency)

    @property
    def tail(self) -> float | None:
        """The forecast [s]; None before there is one."""
        if not self._latencies:
            return None
        values = np.array(self._latencies)
        weights = FORGET ** np.arange(len(values))[::-1]
        order = np.argsort(values)
        share = np.cumsum(weights[order]) / weights.sum()
        return float(values[order][np.searchsorted(share, TAIL)])


@dataclass(frozen=True)
class Running:
    """A chunk under way. times [s] (H,): of its waypoints, ROS time; actions float32 (H, D), the checkpoint's frame;
    latency [s]: from capture until it was sent."""

    chunk_id: int
    times: np.ndarray
    actions: np.ndarray
    latency: float


@dataclass(frozen=True)
class Heard:
    """What a controller last said. rule: of joining; chunk_id: that it follows, 0 for none; consumed: its waypoints
    that were over when it was accepted; latency [s]: from its capture until then; lag [s]: of the path behind the
    clock; refused_id: the last chunk that it refused."""

    rule: str
    chunk_id: int
    consumed: int = 0
    latency: float = 0.0
    lag: float = 0.0
    refused_id: int = 0


@dataclass(frozen=True)
class Prefix:
    """What the next chunk has to continue: actions (K, D) at its own first K waypoints, of which `frozen` will be over
    before it can arrive. overlap: waypoints of the running chunk less the whole ones that lie between the two."""

    actions: np.ndarray
    frozen: int
    overlap: int


class Continuity:
    """The chunks delivered last, and what the controllers said of them. Thread-safe.

    dt, first_offset: of the norm tag; margin [s]: how long before the running chunk's end the next shall arrive.
    """

    def __init__(self, dt: float, first_offset: float, margin: float):
        self._dt, self._first_offset, self._margin = dt, first_offset, margin
        self._lock = threading.Lock()
        self.forecast = LatencyForecast()
        self._heard: dict[str, Heard] = {}
        self.forget()

    def forget(self) -> None:
        """A new episode: nothing is under way."""
        with self._lock:
            self._delivered: deque[Running] = deque(maxlen=RECENT)
            self._consumed: dict[int, int] = {}     # by chunk, the largest of all controllers
            self._refused: set[int] = set()
            self._unheard: Running | None = None    # sent, and not known to have been accepted
            # What was consumed during the cold first call says nothing of the next.
            self._cold: Running | None = None
            self.forecast.cold_start()

    def delivered(self, chunk_id: int, stamp: float, actions: np.ndarray, latency: float) -> None:
        """A chunk went out. stamp, latency: of its observation [s]; actions: the checkpoint's frame."""
        times = stamp + (np.arange(len(actions)) + self._first_offset) * self._dt
        with self._lock:
            if self._unheard is not None:
                self.forecast.add(self._unheard.latency)
            self._unheard = Running(chunk_id, times, actions, latency)
            self._delivered.append(self._unheard)
            self._cold = self._cold or self._unheard

    def hear(self, arm: str, heard: Heard, of_this_episode: bool) -> None:
        """What a controller says. of_this_episode: of the chunk that it follows."""
        with self._lock:
            earlier = self._heard.get(arm)
            self._heard[arm] = heard if of_this_episode else replace(heard, chunk_id=0)
            # What was refused before this process began to listen may bear the number of a chunk to come.
            if earlier is not None and heard.refused_id != earlier.refused_id:
                self._refused.add(heard.refused_id)
            known = next((r for r in self._delivered if r.chunk_id == heard.chunk_id), None)
            if known is None or not of_this_episode:
                return
            if known is not self._cold:
                self._consumed[known.chunk_id] = max(heard.consumed, self._consumed.pop(known.chunk_id, 0))
                while len(self._consumed) > RECENT:
                    self._consumed.pop(next(iter(self._consumed)))
            if self._unheard is known:
                self.forecast.add(max(heard.latency, known.latency))
                self._unheard = None

    def _running(self) -> Running | None:
        """The chunk that runs when the next one is computed: the newest that went out, unless a controller is known to
        have refused it, provided that every controller follows one at all."""
        if not self._heard or not all(h.chunk_id for h in self._heard.values()):
            return None
        oldest = max(h.chunk_id for h in self._heard.values())
        running = (r for r in reversed(self._delivered) if r.chunk_id not in self._refused)
        return next((r for r in running if r.chunk_id >= oldest), None)

    def prefix(self, stamp: float) -> Prefix | None:
        """What a chunk observed at `stamp` [s] has to continue; None where nothing runs then, or where a controller
        joins chunks by another rule than real-time chunking."""
        with self._lock:
            running = self._running()
            if running is None or {h.rule for h in self._heard.values()} != {GUIDED}:
                return None
            # Where limits slow the path, what runs at a time is what was planned for an earlier one.
            lag = max(h.lag for h in self._heard.values())
            times = stamp + (np.arange(len(running.times)) + self._first_offset) * self._dt - lag
            between = math.floor((times[0] - running.times[0]) / self._dt + 1e-6)
            times = times[times <= running.times[-1] + 1e-6]
            if not len(times):
                return None
            actions = np.stack([np.interp(times, running.times, column) for column in running.actions.T], axis=1)
            overlap = len(running.times) - between
            return Prefix(actions.astype(np.float32), min(self._frozen(), len(times)), overlap)

    def _frozen(self) -> int:
        """A forecast of the waypoints that will be over when the next chunk arrives."""
        lately = max(self._consumed.values(), default=0)
        tail = self.forecast.tail
        return lately if tail is None else min(lately, int(np.ceil(MOST_FROZEN * tail / self._dt)))

    def latest_start(self, now: float) -> float | None:
        """When the next inference must begin at the latest so that motion does not pause, ROS time [s]; None where
        nothing runs (any more) or no latency is known yet. now: ROS time [s]."""
        with self._lock:
            tail, running = self.forecast.tail, self._running()
            if running is None or tail is None or running.times[-1] <= now:
                return None
            return float(running.times[-1]) - self._margin - tail

    def standing_share(self) -> float:
        """The least share of time lost at the forecast latency, with one inference at a time and H the chunk's length
        less the margin."""
        with self._lock:
            tail = self.forecast.tail
            if not self._delivered or not tail:
                return 0.0
            length = (len(self._delivered[-1].times) - 1 + self._first_offset) * self._dt - self._margin
            return least_loss(tail, length)
