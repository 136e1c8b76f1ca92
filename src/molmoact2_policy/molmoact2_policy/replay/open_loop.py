# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How far chunks lay from what was then executed, per joint and per step ahead. Holds only the last few seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..bags.bag import stamp_ns

JUMP = 1.0     # [s]
KEPT = 10.0    # [s] of measured joints; a chunk that is longer is judged as far as these go


class Measured:
    """Measured joints of the last seconds, each at its own stamps. joints: the contract's order."""

    def __init__(self, joints: Sequence[str]):
        self.joints = tuple(joints)
        self._tracks: dict[str, deque[tuple[float, float]]] = {joint: deque() for joint in joints}

    def hear(self, message: Any) -> None:
        """A joint state with the contract's names."""
        stamp = stamp_ns(message.header.stamp) / 1e9
        for joint, position in zip(message.name, message.position, strict=False):
            track = self._tracks.get(joint)
            if track is None:
                continue
            if track and stamp < track[-1][0] - JUMP:
                track.clear()    # a clock was set back
            if track and stamp <= track[-1][0]:
                continue
            track.append((stamp, float(position)))
            while track[0][0] < stamp - KEPT:
                track.popleft()

    @property
    def newest(self) -> float:
        """Up to when all joints are known [s]; 0 where nothing is."""
        return min((track[-1][0] if track else 0.0 for track in self._tracks.values()), default=0.0)

    def at(self, times: np.ndarray) -> np.ndarray:
        """float64 (len(times), J), between measurements in proportion; NaN where nothing was measured."""
        columns = []
        for track in self._tracks.values():
            known = np.array(track, dtype=np.float64).reshape(-1, 2)
            if len(known):
                columns.append(np.interp(times, known[:, 0], known[:, 1], left=np.nan, right=np.nan))
            else:
                columns.append(np.full(len(times), np.nan))
        return np.stack(columns, axis=1)


class OpenLoop:
    """Mean |planned - measured| over the chunks of one run."""

    def __init__(self, measured: Measured):
        self._measured = measured
        self._waiting: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self._sums = np.zeros((0, len(measured.joints)))
        self._counts = np.zeros((0, len(measured.joints)), np.int64)

    def add(self, chunk: Any) -> None:
        """A chunk; its joints may come in any order, and those that it lacks are left out."""
        names = list(chunk.joint_names)
        given = np.asarray(chunk.positions, np.float64).reshape(int(chunk.horizon), len(names))
        positions = np.full((len(given), len(self._measured.joints)), np.nan)
        for column, joint in enumerate(self._measured.joints):
            if joint in names:
                positions[:, column] = given[:, names.index(joint)]
        first = stamp_ns(chunk.header.stamp) / 1e9
        times = first + (np.arange(len(given)) + float(chunk.first_offset)) * float(chunk.dt)
        self._waiting.append((times, positions))

    def advance(self, finish: bool = False) -> None:
        """Judges the chunks whose time is over; finish: all, as far as is known."""
        newest = self._measured.newest
        while self._waiting:
            times, positions = self._waiting[0]
            if not finish and newest < times[-1] and times[0] < newest + KEPT:
                return
            self._waiting.popleft()
            errors = np.abs(positions - self._measured.at(times))
            missing = len(errors) - len(self._sums)
            if missing > 0:
                self._sums = np.pad(self._sums, ((0, missing), (0, 0)))
                self._counts = np.pad(self._counts, ((0, missing), (0, 0)))
            self._sums[: len(errors)] += np.nan_to_num(errors)
            self._counts[: len(errors)] += np.isfinite(errors)

    @property
    def mean(self) -> np.ndarray:
        """float64 (H, J) by step ahead and joint; NaN where nothing was executed."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self._counts > 0, self._sums / self._counts, np.nan)
