# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Moves of the controller's own, to the home and the rest pose."""

from __future__ import annotations

import math

import numpy as np

from .path import Path

SLOW = 0.2     # share of the velocity limits
STEP = 0.02    # [s] between knots


def slow_move(start: np.ndarray, target: np.ndarray, velocity: np.ndarray, now: float) -> Path:
    """A straight move in joint space that begins at `now` [s]; speeds up and slows down as a cosine.

    start, target: (J,); velocity: the limits (J,), of which it takes a share.
    """
    # A cosine profile peaks at pi/2 times its mean speed.
    duration = max(float((np.abs(target - start) / (velocity * SLOW)).max()) * math.pi / 2, 4 * STEP)
    times = np.linspace(0.0, duration, int(duration / STEP) + 2)
    share = (1 - np.cos(np.pi * times / duration)) / 2
    speed = np.pi / (2 * duration) * np.sin(np.pi * times / duration)
    step = target - start
    return Path(now + times, start + share[:, None] * step, speed[:, None] * step)
