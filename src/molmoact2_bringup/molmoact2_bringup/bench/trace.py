# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a run was, and what is read from its setpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BORDER = 0.06    # [s] before and after a chunk's arrival that count as its border
STILL = 0.1      # [s]


@dataclass(frozen=True)
class Case:
    """What is run. latency [s]: L, from each observation to its chunk's arrival; in_flight: requests at a time, begun
    L / in_flight after each other. smooth: chunks are smoothed; the waypoints of the small checkpoint scatter, and what
    the limits slow for that would hide what lateness does. wavers: the plan is displaced in every other chunk.
    replaces: chunks are guided the cheap way, by putting the frozen waypoints back."""

    rule: str
    latency: float
    when_late: str = "hold"
    in_flight: int = 1
    smooth: bool = False
    wavers: bool = False
    replaces: bool = False


@dataclass(frozen=True)
class Run:
    """Setpoints (N, J), the i-th sent at i / hz. borders: the first setpoint after each chunk's arrival. captures: when
    observations were taken, in ticks; below 0 before the run was measured. rates: of path time, one a tick, up to the
    last border. seams: largest difference between the two chunks at each border, before they are blended; empty where
    nothing is joined."""

    case: Case
    hz: float
    setpoints: np.ndarray
    borders: np.ndarray
    captures: np.ndarray
    rates: np.ndarray
    seams: np.ndarray

    def derivative(self, order: int) -> np.ndarray:
        """(N, J), from setpoints alone; the first `order` rows are 0."""
        values = np.diff(self.setpoints, n=order, axis=0) * self.hz**order
        return np.concatenate([np.zeros((order, values.shape[1])), values])

    def border_step(self, order: int) -> float:
        """Largest change of the derivative from one setpoint to the next at any chunk border, of any joint."""
        steps = np.abs(np.diff(self.derivative(order), axis=0)).max(axis=1)
        reach = int(BORDER * self.hz)
        near = [steps[max(b - reach, 0) : b + reach] for b in self.borders]
        return float(np.concatenate(near).max()) if near else 0.0

    @property
    def standing(self) -> float:
        """Share of the time in which nothing moves for at least STILL seconds."""
        still = np.abs(np.diff(self.setpoints, axis=0)).max(axis=1) < 1e-6
        edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(int)))
        lengths = edges[1::2] - edges[::2]
        return float(lengths[lengths >= STILL * self.hz].sum() / len(still))

    @property
    def slowdown(self) -> float:
        return float(1.0 - self.rates.mean())
