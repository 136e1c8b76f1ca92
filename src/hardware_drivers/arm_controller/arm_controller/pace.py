# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pace: how fast a path may be run at each place, so that the arm stays within its limits without leaving the path.

A path p(s) is run at a rate r = ds/dt, 0 .. 1. The arm's velocity is p' r, its acceleration p'' r^2 + p' dr/dt. Limits
are met by choosing r; the path itself is never bent. (The idea is that of time-optimal path parameterisation, Bobrow
1985; here the rate never exceeds 1, since a path also has a clock to keep.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .path import Path

CURVATURE_SHARE = 0.7    # of the acceleration limits, for following the path; the rest is for changing the rate
# Of the jerk limits: for following the path at a steady rate, for changing how the rate changes, and for both at once.
JERK_PATH, JERK_RATE, JERK_BOTH = 0.4, 0.3, 0.3
BRAKING_SHARE = 0.5      # of what is left for changing the rate; the rest makes up for braking that sets in smoothly
SOFTEST = 0.1            # share of the velocity limit that is left at a position limit
EXCESS, JERK_EXCESS = 1.1, 1.5    # of a limit, that a path may ask for on being entered
TINY = 1e-9
CREEPING = 200    # setpoints more than the path has at full pace, that are rehearsed


@dataclass(frozen=True)
class Limits:
    """Per joint, float64 (J,): [unit/s], [unit/s^2], [unit/s^3]; position limits, and how far before them the velocity
    limit towards them begins to fall [unit]."""

    velocity: np.ndarray
    acceleration: np.ndarray
    jerk: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    soft_zone: np.ndarray

    def velocity_at(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        """Velocity limits (N, J) at positions (N, J) for the directions of velocities (N, J)."""
        left = np.where(velocities > 0, self.upper - positions, positions - self.lower)
        share = np.clip(left / np.maximum(self.soft_zone, TINY), SOFTEST, 1.0)
        return self.velocity * np.where(self.soft_zone > 0, share, 1.0)


@dataclass(frozen=True)
class Entry:
    """How a path is entered: the rate and its change [1/s] of the path before, and the command's velocity and
    acceleration (J,)."""

    rate: float
    change: float
    velocity: np.ndarray
    acceleration: np.ndarray


class Pace:
    """Rate ceilings along one path, on a grid of `step` seconds of path time. share: of the rates the limits allow."""

    def __init__(self, path: Path, limits: Limits, step: float, share: float = 1.0):
        count = max(int(np.ceil((path.end - path.start) / step)), 1)
        grid = np.linspace(path.start, path.end, count + 1)
        h = (path.end - path.start) / count
        signed = path.sample(grid, 1)
        velocity_limit = limits.velocity_at(path.sample(grid), signed)
        velocity = np.abs(signed)
        acceleration = path.sample(grid, 2)
        # The end counts as the place just before it; that the path stops there is what braking is for.
        velocity[-1], acceleration[-1] = velocity[-2], acceleration[-2]
        jerk = np.abs(np.diff(acceleration, axis=0, prepend=acceleration[:1])) / h
        acceleration = np.abs(acceleration)
        ceiling = np.minimum.reduce(
            [
                np.ones(count + 1),
                (velocity_limit / np.maximum(velocity, TINY)).min(axis=1),
                np.sqrt(CURVATURE_SHARE * limits.acceleration / np.maximum(acceleration, TINY)).min(axis=1),
                np.cbrt(JERK_PATH * limits.jerk / np.maximum(jerk, TINY)).min(axis=1),
            ]
        )
        ceiling *= share
        # What holds at a place holds for the steps that reach it.
        padded = np.pad(ceiling, 1, mode="edge")
        ceiling = np.minimum.reduce([padded[:-2], padded[1:-1], padded[2:]])
        spare = np.maximum(limits.acceleration - acceleration * ceiling[:, None] ** 2, 0.0)
        # The whole range of the rate within one step is as fast as it ever needs to change.
        change = (spare / np.maximum(velocity, TINY)).min(axis=1)
        both = (JERK_BOTH * limits.jerk / np.maximum(3.0 * acceleration, TINY)).min(axis=1)
        change = np.minimum.reduce([change, both, np.full(count + 1, 1.0 / step)])
        slew = (JERK_RATE * limits.jerk / np.maximum(velocity, TINY)).min(axis=1)
        slew = np.minimum(slew, 1.0 / step**2)
        self._squares: list[float] = (_braked(ceiling, change, slew, h) ** 2).tolist()
        self._change: list[float] = change.tolist()
        self._slew: list[float] = slew.tolist()
        self._start, self._end, self._step = path.start, path.end, h
        self._path, self._limits = path, limits

    def ceiling(self, time: float) -> float:
        """The largest rate at a place on the path."""
        # Between two grid points the square is what braking makes linear.
        return math.sqrt(self._at(self._squares, time))

    def _at(self, table: list[float], time: float) -> float:
        place = (time - self._start) / self._step
        index = min(max(int(place), 0), len(table) - 2)
        share = min(max(place - index, 0.0), 1.0)
        return table[index] + share * (table[index + 1] - table[index])

    def next_rate(self, time: float, rate: float, change: float, dt: float, wanted: float) -> float:
        """The rate `dt` seconds later at a place on the path; it changes only as fast as the limits allow.

        rate, change [1/s]: now; wanted: 0 to come to rest .. 1 to keep the clock's pace.
        """
        most, slew = self._at(self._change, time), self._at(self._slew, time)
        goal = min(wanted, self.ceiling(min(time + rate * dt, self._end)))
        if change > 0.0:    # it rises on until that is undone
            rising = change / slew
            goal = min(goal, self.ceiling(min(time + (rate + change * rising / 2) * rising, self._end)))
        # The last of a change is made ever more slowly, so that it ends as smoothly as it began.
        off = goal - rate
        towards = math.copysign(min(abs(off) / dt, math.sqrt(2.0 * slew * abs(off)), most), off)
        towards = min(max(towards, change - slew * dt), change + slew * dt)
        return min(max(rate + towards * dt, 0.0), 1.0)

    def excess(self, entry: Entry, dt: float) -> float:
        """What a path asks for when it is entered like this and run to its end, in multiples of the limits and their
        EXCESS. The rate falls only so fast, and where it is too high it also comes sooner to what is ahead; so every
        setpoint is rehearsed."""
        positions = self._path.sample(np.array(self._rehearsed(entry, dt)))
        velocity = np.diff(positions, axis=0) / dt
        acceleration = np.diff(velocity, axis=0, prepend=entry.velocity[None]) / dt
        jerk = np.diff(acceleration, axis=0, prepend=entry.acceleration[None]) / dt
        asked = (
            (velocity, self._limits.velocity_at(positions[:-1], velocity), EXCESS),
            (acceleration, self._limits.acceleration, EXCESS),
            (jerk, self._limits.jerk, JERK_EXCESS),
        )
        return max(float((np.abs(values) / limits).max()) / excess for values, limits, excess in asked)

    def _rehearsed(self, entry: Entry, dt: float) -> list[float]:
        """The path times of the setpoints until the arm stands at the end; of one that creeps, the first of them."""
        time, rate, change = self._start, entry.rate, entry.change
        times = [time]
        while time < self._end - TINY and len(times) < len(self._squares) + CREEPING:
            left = (self._end - time) / dt    # nothing follows the end
            after = min(self.next_rate(time, rate, change, dt, 1.0), left)
            rate, change = after, (after - rate) / dt
            time += rate * dt
            times.append(time)
        return [*times, time, time] if time >= self._end - TINY else times


def _braked(ceiling: np.ndarray, change: np.ndarray, slew: np.ndarray, step: float) -> np.ndarray:
    """The ceilings lowered where one further on could not be reached in time; 0 at the end, and softly so."""
    squares = ceiling**2
    squares[-1] = 0.0
    for index in range(len(squares) - 2, -1, -1):
        softly = np.sqrt(2.0 * slew[index] * max(np.sqrt(squares[index + 1]), slew[index] * step**2))
        braking = min(BRAKING_SHARE * change[index], softly)
        squares[index] = min(squares[index], squares[index + 1] + 2.0 * braking * step)
    return np.sqrt(squares)
