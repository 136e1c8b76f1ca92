# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Yielding: the way of a command to where its arm is. An arm that does not follow shall not spring when it is freed."""

from __future__ import annotations

import numpy as np

from .pace import Limits

SLOW = 0.2       # share of the velocity limits
BRAKING = 0.5    # share of the acceleration limits that the way to the target plans with
TINY = 1e-12


class Yielding:
    """Each joint by itself, from the speed it has, within velocity and acceleration limits.

    command, velocity, target: (J,). A joint that was moving away from its target brakes first.
    """

    def __init__(self, limits: Limits, command: np.ndarray, velocity: np.ndarray, target: np.ndarray):
        self._limits, self._command, self._velocity = limits, command.copy(), velocity.copy()
        self.target = target.copy()

    def step(self, dt: float) -> np.ndarray:
        """The next command (J,), `dt` seconds after the last."""
        left = self.target - self._command
        acceleration = self._limits.acceleration
        speed = np.minimum.reduce(
            [SLOW * self._limits.velocity, np.sqrt(2 * BRAKING * acceleration * np.abs(left)), np.abs(left) / dt]
        )
        change = np.clip(np.sign(left) * speed - self._velocity, -acceleration * dt, acceleration * dt)
        velocity = np.clip(self._velocity + change, -self._limits.velocity, self._limits.velocity)
        command = np.clip(self._command + velocity * dt, self._limits.lower, self._limits.upper)
        self._velocity, self._command = (command - self._command) / max(dt, TINY), command
        return command.copy()

    @property
    def slow(self) -> bool:
        """Whether the speed it began with is gone."""
        return bool((np.abs(self._velocity) <= SLOW * self._limits.velocity + TINY).all())
