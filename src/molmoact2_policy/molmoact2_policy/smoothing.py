# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Smoothing: waypoints without the tremble that an action expert leaves in them.

Each waypoint of a chunk is drawn by itself, and from one to the next they differ by more than the motion asks for. A
controller that keeps limits of acceleration and jerk can follow a trembling path only slowly.
"""

from __future__ import annotations

import numpy as np
import scipy
from scipy.signal import savgol_filter

LONGEST = 2.0    # [s]; of a stretch
ORDER = 3    # of the polynomials: a motion that begins, turns or ends once within the stretch is kept


class Smoothing:
    """Fits a cubic to a stretch of a chunk around each waypoint (Savitzky and Golay 1964). Nothing goes further than
    the chunk itself did: a cubic overshoots where a motion stops, and that may be at a joint's limit.

    seconds: the stretch's length; 0: chunks stay as they are; dt: between waypoints [s].
    """

    def __init__(self, seconds: float, dt: float):
        self._window = 2 * round(seconds / dt / 2) + 1 if seconds > 0 else 0

    def __call__(self, actions: np.ndarray, kept: int = 0) -> np.ndarray:
        """actions: (H, D); kept: so many of the first ones are another chunk's, already being followed, and stay. A
        chunk with a number that is none stays as it is, for whoever refuses it."""
        window = min(self._window, len(actions) - 1 + len(actions) % 2)
        if window <= ORDER + 1 or not np.isfinite(actions).all():
            return actions
        smooth = savgol_filter(actions, window, ORDER, axis=0).astype(actions.dtype)
        smooth = np.clip(smooth, actions.min(axis=0), actions.max(axis=0))
        smooth[:kept] = actions[:kept]
        return smooth

    def facts(self) -> dict[str, str]:
        """What the last bits of a smoothed chunk depend on besides the chunk."""
        return {"scipy": scipy.__version__} if self._window else {}
