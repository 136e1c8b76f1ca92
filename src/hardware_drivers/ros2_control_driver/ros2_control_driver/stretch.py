# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Setpoints gathered to trajectories for an interface that takes whole ones. No ROS here.

Each new goal of an action replaces the one that runs. So a goal is not a setpoint but a stretch: every setpoint of the
last moments, each due `lead` after it was commanded. It is renewed before it ends, and the new one repeats what of the
old one is not due yet, so that the path goes on as if it had been one.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from .wire import Goal

NEAR = 20_000_000    # [ns]; what is due sooner than this is over when it arrives


@dataclass(frozen=True)
class Trajectory:
    """stamp_ns: of its begin, ROS time; 0: when it arrives. points: time from the begin [ns], positions (J,)."""

    stamp_ns: int
    points: tuple[tuple[int, tuple[float, ...]], ...]


class Stretch:
    """Setpoints come in one thread and are taken as trajectories in another. lead [s]."""

    def __init__(self, lead: float):
        self._lead = int(lead * 1e9)
        self._goals: deque[Goal] = deque()
        self._lock = threading.Lock()
        self._news = False

    def add(self, goal: Goal) -> bool:
        """Whether it must go at once: a stop, after which nothing that was said before counts."""
        with self._lock:
            if not goal.stamp_ns:
                self._goals.clear()
            elif self._goals and (not self._goals[-1].stamp_ns or goal.stamp_ns <= self._goals[-1].stamp_ns):
                # After a stop, or where the clock was set back: what comes now begins anew.
                self._goals.clear()
            self._goals.append(goal)
            self._news = True
        return not goal.stamp_ns

    def take(self, now_ns: int) -> Trajectory | None:
        """What is to be followed from now on, ROS time [ns]; None where nothing new has come, or nothing in time."""
        with self._lock:
            if not self._news:
                return None
            self._news = False
            if not self._goals[-1].stamp_ns:
                return Trajectory(0, ((self._lead, self._goals[-1].positions),))
            while self._goals and self._goals[0].stamp_ns + self._lead < now_ns + NEAR:
                self._goals.popleft()
            if not self._goals:
                return None
            begin = self._goals[0].stamp_ns
            return Trajectory(begin, tuple((g.stamp_ns - begin + self._lead, g.positions) for g in self._goals))
