# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Stretches of rows in which something holds, and the times between rows."""

from __future__ import annotations

import numpy as np


def off_rate(time: np.ndarray, fps: float, tolerance: float) -> str:
    """What is wrong with the times of frames; empty where nothing is. time: (N,) [s]."""
    off = np.abs(np.diff(time.astype(np.float64)) * fps - 1) > tolerance
    if not off.any():
        return ""
    frame = int(off.argmax())
    step = float(time[frame + 1] - time[frame]) * 1e3
    return f"{step:.0f} ms lie between frames {frame} and {frame + 1}, {1e3 / fps:.0f} ms are stated"


def runs(holds: np.ndarray, least: int) -> list[tuple[int, int]]:
    """First and end of where it holds for at least so many frames on end. holds: bool (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2) if end - first >= max(1, least)]


def still(values: np.ndarray, within: float, least: int) -> list[tuple[int, int]]:
    """First and end of stretches of at least so many rows in which no column leaves the first row's value by more than
    `within`, one after the other. values: (N, D)."""
    found, first = [], 0
    while first + least <= len(values):
        end = first
        while end < len(values) and (end - first) % least == 0:    # a window as long as the shortest, then the next
            away = np.abs(values[end : end + least] - values[first]).max(axis=1) > within
            end += int(away.argmax()) if away.any() else len(away)
            if away.any():
                break
        if end - first >= least:
            found.append((first, end))
            first = end
        else:
            first += 1
    return found
