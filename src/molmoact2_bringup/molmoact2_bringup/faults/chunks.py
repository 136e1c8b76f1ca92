# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of action chunks: each takes a sound chunk and spoils it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time

from molmoact2_msgs.msg import ActionChunk, ControllerStatus

REFUSED, UNHARMED = "refused", "handled unharmed"
Spoil = Callable[[ActionChunk], None]


@dataclass(frozen=True)
class ChunkFault:
    """One fault. refusals: the codes of which one is expected; empty where the chunk is handled unharmed."""

    name: str
    spoil: Spoil
    refusals: tuple[int, ...]

    @property
    def expected(self) -> str:
        return REFUSED if self.refusals else UNHARMED


def _value(value: float) -> Spoil:
    def spoil(chunk: ActionChunk) -> None:
        chunk.positions[7] = value

    return spoil


def _table(chunk: ActionChunk) -> np.ndarray:
    return np.array(chunk.positions).reshape(chunk.horizon, len(chunk.joint_names))


def _with_table(chunk: ActionChunk, table: np.ndarray) -> None:
    chunk.horizon, chunk.positions = len(table), table.ravel().tolist()


def _shuffle(chunk: ActionChunk) -> None:
    order = list(reversed(range(len(chunk.joint_names))))
    _with_table(chunk, _table(chunk)[:, order])
    chunk.joint_names = [chunk.joint_names[i] for i in order]


def _unknown_joint(chunk: ActionChunk) -> None:
    chunk.joint_names = ["tentacle", *list(chunk.joint_names)[1:]]


def _missing_joint(chunk: ActionChunk) -> None:
    _with_table(chunk, _table(chunk)[:, 1:])
    chunk.joint_names = list(chunk.joint_names)[1:]


def _empty(chunk: ActionChunk) -> None:
    chunk.horizon, chunk.positions = 0, []


def _too_short(chunk: ActionChunk) -> None:
    chunk.positions = list(chunk.positions)[:-1]


def _too_long(chunk: ActionChunk) -> None:
    chunk.positions = [*chunk.positions, 0.0]


def _shifted(seconds: float) -> Spoil:
    def spoil(chunk: ActionChunk) -> None:
        stamp = chunk.header.stamp
        total = stamp.sec * 1_000_000_000 + stamp.nanosec + int(seconds * 1e9)
        chunk.header.stamp = Time(sec=total // 1_000_000_000, nanosec=total % 1_000_000_000)

    return spoil


def _earlier(chunk: ActionChunk) -> None:
    """As it would have been half a second ago: each place at the same time."""
    waypoints = round(0.5 / chunk.dt)
    table = _table(chunk)
    _with_table(chunk, np.concatenate([np.tile(table[0], (waypoints, 1)), table[:-waypoints]]))
    _shifted(-waypoints * chunk.dt)(chunk)


def _zero_stamp(chunk: ActionChunk) -> None:
    chunk.header.stamp = Time()


def _wrong_dt(chunk: ActionChunk) -> None:
    chunk.dt *= 3.0


def _wrong_episode(chunk: ActionChunk) -> None:
    chunk.episode_id = "an episode long over"


def _outside(chunk: ActionChunk) -> None:
    table = _table(chunk)
    table[:, 0] = 3.0
    _with_table(chunk, table)


def _leap(chunk: ActionChunk) -> None:
    table = _table(chunk)
    table[:, 0] += 0.9
    _with_table(chunk, table)


S = ControllerStatus
FAULTS = (
    ChunkFault("NaN in a waypoint", _value(math.nan), (S.REFUSAL_NOT_FINITE,)),
    ChunkFault("infinity in a waypoint", _value(math.inf), (S.REFUSAL_NOT_FINITE,)),
    ChunkFault("joints in another order", _shuffle, ()),
    ChunkFault("an unknown joint", _unknown_joint, (S.REFUSAL_JOINTS,)),
    ChunkFault("a missing joint", _missing_joint, (S.REFUSAL_JOINTS,)),
    ChunkFault("no waypoints", _empty, (S.REFUSAL_SHAPE,)),
    ChunkFault("positions too short", _too_short, (S.REFUSAL_SHAPE,)),
    ChunkFault("positions too long", _too_long, (S.REFUSAL_SHAPE,)),
    ChunkFault("observed 5 s ago", _shifted(-5.0), (S.REFUSAL_STALE,)),
    ChunkFault("stamped 5 s in the future", _shifted(5.0), (S.REFUSAL_STAMP,)),
    ChunkFault("stamp of zero", _zero_stamp, (S.REFUSAL_STAMP,)),
    ChunkFault("observed before the running one", _earlier, (S.REFUSAL_OLDER,)),
    ChunkFault("the wrong dt", _wrong_dt, (S.REFUSAL_TIMING,)),
    ChunkFault("the wrong episode", _wrong_episode, (S.REFUSAL_EPISODE,)),
    ChunkFault("a joint outside its limits", _outside, (S.REFUSAL_LIMITS,)),
    ChunkFault("a leap from where the arm is", _leap, (S.REFUSAL_STEP,)),
)
