# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Guiding a stiff arm by hand: goals give way to a push beyond a dead band, and stay where it ends. No device here.

The servos carry no weight by themselves and must not go limp, so the arm is led like a thing with friction: each joint
holds until it is pushed farther than the dead band from its goal, and then its goal follows. The band is wide enough
for the arm's own weight; more than that lets it creep down slowly. Should the program end, the servos hold.
"""

from __future__ import annotations

import numpy as np

BAND = 0.10     # [rad], gripper: share; wider than its own weight bends a joint, taken as 0.07 rad at most
TIME = 0.1      # [s]; a goal follows what exceeds the band with this time constant
MOST_DT = 0.05  # [s]


class Hand:
    """Goals that follow a hand. goals, lower, upper: float64 (J,), ROS units. bent: how far what a gripper holds keeps
    it from its goal (J,), which is no push of a hand; from the first push on it does not count."""

    def __init__(self, goals: np.ndarray, lower: np.ndarray, upper: np.ndarray, bent: np.ndarray):
        self._goals, self._lower, self._upper, self._bent = goals.copy(), lower, upper, bent
        self._last: float | None = None

    def follow(self, positions: np.ndarray, steady: float) -> np.ndarray:
        """The goals (J,) now, for measured positions (J,). steady: steady-clock time [s]."""
        dt = 0.0 if self._last is None else min(max(steady - self._last, 0.0), MOST_DT)
        self._last = steady
        pushed = positions - self._goals - self._bent
        self._bent = np.where(np.abs(pushed) > BAND, 0.0, self._bent)
        beyond = np.sign(pushed) * np.maximum(np.abs(pushed) - BAND, 0.0)
        self._goals = np.clip(self._goals + beyond * dt / TIME, self._lower, self._upper)
        return self._goals.copy()
