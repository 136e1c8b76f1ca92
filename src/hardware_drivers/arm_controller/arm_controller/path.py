# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Path: joint targets over time, smooth between waypoints."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

CHECKS = 4    # parts of the time between two waypoints, at whose borders overshoot is looked for

Bounds = tuple[np.ndarray, np.ndarray]    # lower and upper, each float64 (J,)


class Path:
    """A cubic through (time [s], position (J,)) knots with continuous velocity; at rest before and after them.

    velocities: float64 (N, J), at the knots; 0 where None.
    """

    def __init__(self, times: np.ndarray, positions: np.ndarray, velocities: np.ndarray | None = None):
        self.times = np.asarray(times, dtype=np.float64)
        self.positions = np.asarray(positions, dtype=np.float64)
        if self.times.ndim != 1 or self.positions.shape[:1] != self.times.shape or (np.diff(self.times) <= 0).any():
            raise ValueError("a path needs increasing times and one position for each")
        self.velocities = np.zeros_like(self.positions) if velocities is None else velocities
        self._cubics: list[CubicHermiteSpline] = []
        if len(self.times) > 1:
            cubic = CubicHermiteSpline(self.times, self.positions, self.velocities)
            self._cubics = [cubic, cubic.derivative(1), cubic.derivative(2)]

    @classmethod
    def through(cls, times: np.ndarray, waypoints: np.ndarray, bounds: Bounds) -> Path:
        """A path through waypoints float64 (N, J) that leaves `bounds` nowhere if the waypoints do not.

        Tangents are central differences, which follow smooth motion closely; a joint that would overshoot its bounds
        gets monotone ones (Fritsch and Carlson 1980), which overshoot no waypoint.
        """
        if len(times) < 2:
            return cls(times, waypoints)
        tangents = np.gradient(waypoints, times, axis=0)
        spline = CubicHermiteSpline(times, waypoints, tangents)
        shares = np.arange(1, CHECKS) / CHECKS
        between = spline((times[:-1, None] + np.diff(times)[:, None] * shares).ravel())
        # Where the cubic peaks between the places looked at, it is not far above them.
        margin = 0.1 * np.ptp(between, axis=0)
        over = ((between < bounds[0] + margin) | (between > bounds[1] - margin)).any(axis=0)
        if over.any():
            tangents[:, over] = PchipInterpolator(times, waypoints[:, over]).derivative()(times)
        return cls(times, waypoints, tangents)

    @property
    def start(self) -> float:
        return float(self.times[0])

    @property
    def end(self) -> float:
        return float(self.times[-1])

    def sample(self, time: float | np.ndarray, order: int = 0) -> np.ndarray:
        """Position (order 0), velocity (1) or acceleration (2) at a time or times (N,): float64 (J,) or (N, J)."""
        if not self._cubics:
            values = np.broadcast_to(self.positions[0], (*np.shape(time), self.positions.shape[1]))
            return values.copy() if order == 0 else np.zeros_like(values)
        values = self._cubics[order](np.clip(time, self.times[0], self.times[-1]))
        if order:
            moving = (np.asarray(time) >= self.times[0]) & (np.asarray(time) < self.times[-1])
            values = values * moving[..., None]
        return values

    def shift(self, seconds: float) -> None:
        """Moves the whole path in time, after the clock jumped."""
        self.times = self.times + seconds
        for cubic in self._cubics:
            cubic.x = cubic.x + seconds
