# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""When the next inference must begin, and which running chunk its chunk has to continue. No ROS here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

TAIL = 0.95            # share of latencies that the forecast covers
FORGET = 0.98          # weight of a latency against the one after it: halves in about 34 inferences
GUIDED = "rtc"         # ControllerStatus.joining of a controller whose chunks shall continue each other
RECENT = 20            # chunks whose consumed waypoints make the forecast of the next


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
    """A chunk under way. times [s] (H,): of its waypoints, ROS time; actions float32 (H, D), the checkpoint's frame."""

    chunk_id: int
    times: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Prefix:
    """What the next chunk has to continue: actions (K, D) at its own first K waypoints, of which `frozen` will be over
    before it can arrive."""

    actions: np.ndarray
    frozen: int


class Continuity:
    """The chunks delivered last, and what the controllers said of them. Thread-safe.

    dt, first_offset: of the norm tag; margin [s]: how long before the running chunk's end the next shall arrive.
    """

    def __init__(self, dt: float, first_offset: float, margin: float):
        self._dt, self._first_offset, self._margin = dt, first_offset, margin
        self._lock = threading.Lock()
        self.forecast = LatencyForecast()
        self._rules: dict[str, str] = {}
        self.forget()

    def forget(self) -> None:
        """A new episode: nothing is under way."""
        with self._lock:
            self._delivered: deque[Running] = deque(maxlen=RECENT)
            self._consumed: deque[int] = deque(maxlen=RECENT)
            self._counted: set[tuple[str, int]] = set()
            self._accepted = 0
            self.forecast.cold_start()

    def delivered(self, chunk_id: int, stamp: float, actions: np.ndarray, latency: float) -> None:
        """A chunk went out. stamp, latency: of its observation [s]; actions: the checkpoint's frame."""
        times = stamp + (np.arange(len(actions)) + self._first_offset) * self._dt
        with self._lock:
            self._delivered.append(Running(chunk_id, times, actions))
            self.forecast.add(latency)

    def joins_by(self, arm: str, rule: str) -> None:
        """How a controller joins chunks."""
        with self._lock:
            self._rules[arm] = rule

    def accepted(self, arm: str, chunk_id: int, consumed: int) -> None:
        """A controller follows a chunk, of which so many waypoints were over when it came."""
        with self._lock:
            if (arm, chunk_id) in self._counted or all(r.chunk_id != chunk_id for r in self._delivered):
                return
            self._counted.add((arm, chunk_id))
            self._consumed.append(consumed)
            self._accepted = max(self._accepted, chunk_id)

    def stopped(self) -> None:
        """A controller follows no chunk: there is nothing to continue."""
        with self._lock:
            self._accepted = 0

    def _running(self) -> Running | None:
        return next((r for r in reversed(self._delivered) if r.chunk_id == self._accepted), None)

    def prefix(self, stamp: float) -> Prefix | None:
        """What a chunk observed at `stamp` [s] has to continue; None where nothing runs then, or where a controller
        joins chunks by another rule than real-time chunking."""
        with self._lock:
            running = self._running()
            if running is None or set(self._rules.values()) != {GUIDED}:
                return None
            times = stamp + (np.arange(len(running.times)) + self._first_offset) * self._dt
            times = times[times <= running.times[-1] + 1e-6]
            if not len(times):
                return None
            actions = np.stack([np.interp(times, running.times, column) for column in running.actions.T], axis=1)
            frozen = min(max(self._consumed, default=0), len(times))
            return Prefix(actions.astype(np.float32), frozen)

    def latest_start(self) -> float | None:
        """When the next inference must begin at the latest so that motion does not pause, ROS time [s]; None where
        nothing runs or no latency is known yet."""
        with self._lock:
            tail = self.forecast.tail
            if not self._delivered or tail is None:
                return None
            return float(self._delivered[-1].times[-1]) - self._margin - tail

    def standing_share(self) -> float:
        """The least share of time lost at the forecast latency, with one inference at a time and H the chunk's length
        less the margin."""
        with self._lock:
            tail = self.forecast.tail
            if not self._delivered or not tail:
                return 0.0
            length = (len(self._delivered[-1].times) - 1 + self._first_offset) * self._dt - self._margin
            return least_loss(tail, length)
