# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pace: how fast a path may be run at each place, so that the arm stays within its limits without leaving the path.

A path p(s) is run at a rate r = ds/dt, 0 .. 1. The arm's velocity is p' r, its acceleration p'' r^2 + p' dr/dt. Limits
are met by choosing r; the path itself is never bent. (The idea is that of time-optimal path parameterisation, Bobrow
1985; here the rate never exceeds 1, since a path also has a clock to keep.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .path import Path

CURVATURE_SHARE = 0.7    # of the acceleration limits, for following the path; the rest is for changing the rate
# Of the jerk limits: for following the path at a steady rate, for changing how the rate changes, and for both at once.
JERK_PATH, JERK_RATE, JERK_BOTH = 0.4, 0.3, 0.3
BRAKING_SHARE = 0.5      # of what is left for changing the rate; the rest makes up for braking that sets in smoothly
SOFTEST = 0.1            # share of the velocity limit that is left at a position limit
TINY = 1e-9


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


class Pace:
    """Rate ceilings along one path, on a grid of `step` seconds of path time."""

    def __init__(self, path: Path, limits: Limits, step: float):
        count = max(int(np.ceil((path.end - path.start) / step)), 1)
        self._grid = np.linspace(path.start, path.end, count + 1)
        h = (path.end - path.start) / count
        signed = path.sample(self._grid, 1)
        velocity_limit = limits.velocity_at(path.sample(self._grid), signed)
        velocity = np.abs(signed)
        acceleration = path.sample(self._grid, 2)
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
        # What holds at a place holds for the steps that reach it.
        padded = np.pad(ceiling, 1, mode="edge")
        ceiling = np.minimum.reduce([padded[:-2], padded[1:-1], padded[2:]])
        spare = np.maximum(limits.acceleration - acceleration * ceiling[:, None] ** 2, 0.0)
        # The whole range of the rate within one step is as fast as it ever needs to change.
        change = (spare / np.maximum(velocity, TINY)).min(axis=1)
        both = (JERK_BOTH * limits.jerk / np.maximum(3.0 * acceleration, TINY)).min(axis=1)
        self._change = np.minimum.reduce([change, both, np.full(count + 1, 1.0 / step)])
        slew = (JERK_RATE * limits.jerk / np.maximum(velocity, TINY)).min(axis=1)
        self._slew = np.minimum(slew, 1.0 / step**2)
        self._ceiling = self._braked(ceiling, h)

    def _braked(self, ceiling: np.ndarray, step: float) -> np.ndarray:
        """The ceilings lowered where one further on could not be reached in time; 0 at the end, and softly so."""
        squares = ceiling**2
        squares[-1] = 0.0
        for index in range(len(squares) - 2, -1, -1):
            slew = self._slew[index]
            softly = np.sqrt(2.0 * slew * max(np.sqrt(squares[index + 1]), slew * step**2))
            braking = min(BRAKING_SHARE * self._change[index], softly)
            squares[index] = min(squares[index], squares[index + 1] + 2.0 * braking * step)
        return np.sqrt(squares)

    def ceiling(self, time: float) -> float:
        """The largest rate at a place on the path."""
        # Between two grid points the square is what braking makes linear.
        return float(np.sqrt(np.interp(time, self._grid, self._ceiling**2)))

    def change(self, time: float) -> float:
        """How fast the rate may change at a place on the path [1/s]."""
        return float(np.interp(time, self._grid, self._change))

    def slew(self, time: float) -> float:
        """How fast that change itself may change [1/s^2]."""
        return float(np.interp(time, self._grid, self._slew))
