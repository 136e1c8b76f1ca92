# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where the gripper of an arm is planned to go: chunks by forward kinematics, and where one took over from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from molmoact2_contract import Arm

from ..ingest import stamp_ns


@dataclass(frozen=True)
class Plan:
    """The path of an arm's last link in one chunk. times_ns: int64 (H,) ROS time; points: float64 (H, 3) [m] in the
    arm's base frame."""

    chunk_id: int
    episode_id: str
    stamp_ns: int
    times_ns: np.ndarray
    points: np.ndarray

    def at(self, time_ns: int) -> np.ndarray | None:
        """The point (3,) at a time; None outside the plan."""
        if not self.times_ns[0] <= time_ns <= self.times_ns[-1]:
            return None
        since = self.times_ns - self.times_ns[0]
        return np.array([np.interp(time_ns - self.times_ns[0], since, axis) for axis in self.points.T])


@dataclass(frozen=True)
class Seam:
    """Where the running plan took over. time_ns: acceptance; end_ns: end of the cross-fade; before, after: the points
    (3,) of the old and the new plan at acceptance, None where the plan does not cover it."""

    time_ns: int
    end_ns: int
    before: np.ndarray | None
    after: np.ndarray | None

    @property
    def gap(self) -> float | None:
        """Distance between the two plans there [m]."""
        if self.before is None or self.after is None:
            return None
        return float(np.linalg.norm(self.after - self.before))


def plan_of(chunk: Any, arm: Arm) -> Plan:
    """The plan of an ActionChunk message. Errors: ValueError for a chunk that is no path of this arm."""
    assert arm.kinematics is not None
    width, missing = len(chunk.joint_names), [name for name in arm.joints if name not in chunk.joint_names]
    if missing:
        raise ValueError(f"chunk {chunk.chunk_id} has no joint {missing[0]!r}")
    if chunk.horizon < 1 or len(chunk.positions) != chunk.horizon * width:
        raise ValueError(f"chunk {chunk.chunk_id} has {len(chunk.positions)} positions, not {chunk.horizon} x {width}")
    positions = np.asarray(chunk.positions, dtype=np.float64).reshape(chunk.horizon, width)
    columns = [chunk.joint_names.index(name) for name in arm.joints]
    if not np.isfinite(positions[:, columns]).all() or not np.isfinite((chunk.dt, chunk.first_offset)).all():
        raise ValueError(f"chunk {chunk.chunk_id} holds values that are not finite")
    if chunk.dt <= 0:
        raise ValueError(f"chunk {chunk.chunk_id} has dt {chunk.dt:g}, expected more than 0")
    tip = arm.frames[-1]
    offsets = (np.arange(chunk.horizon) + chunk.first_offset) * chunk.dt
    times = stamp_ns(chunk) + np.round(offsets * 1e9).astype(np.int64)
    points = arm.kinematics.points(positions[:, columns], [tip])[:, 0]
    return Plan(chunk.chunk_id, chunk.episode_id, stamp_ns(chunk), times, points)


class ArmPlans:
    """The plans of one arm with kinematics: `running` as its controller says, `offered` the newest chunk while that is
    not running yet, `previous` the one before. refusal: why the offered one was refused, in words; else empty."""

    def __init__(self, arm: Arm, blend_window: float):
        self.arm, self._blend_ns = arm, int(blend_window * 1e9)
        self.running: Plan | None = None
        self.previous: Plan | None = None
        self.seam: Seam | None = None
        self._newest: Plan | None = None
        self._status: Any = None

    @property
    def offered(self) -> Plan | None:
        return None if self._newest is self.running else self._newest

    @property
    def refusal(self) -> str:
        status, plan = self._status, self.offered
        if status is None or plan is None or status.last_refused_chunk_id != plan.chunk_id:
            return ""
        return status.last_refusal_text

    def take_chunk(self, chunk: Any) -> None:
        """Errors: ValueError, and the plans stay as they were."""
        self._newest = plan_of(chunk, self.arm)
        self._settle()

    def take_status(self, status: Any) -> None:
        self._status = status
        self._settle()

    def _settle(self) -> None:
        """The chunk and the status that says it is followed come in either order."""
        status, newest = self._status, self._newest
        if status is None:
            return
        followed = (status.episode_id, status.chunk_id)
        if self.running is not None and followed != (self.running.episode_id, self.running.chunk_id):
            self.previous, self.running, self.seam = self.running, None, None
        if newest is not None and self.running is None and followed == (newest.episode_id, newest.chunk_id):
            self.running = newest
            time_ns = newest.stamp_ns + int(status.acceptance_latency * 1e9)
            before = self.previous.at(time_ns) if self.previous else None
            self.seam = Seam(time_ns, time_ns + self._blend_ns, before, newest.at(time_ns))
