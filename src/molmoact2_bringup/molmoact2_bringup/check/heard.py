# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What was heard of a robot for a while: plain values, filled by the listener and judged elsewhere. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OK, WARN, ERROR, STALE = 0, 1, 2, 3    # DiagnosticStatus.level


@dataclass
class Stream:
    """Messages of one topic. stamps: of capture, ROS time [ns]; arrivals: this computer's ROS time then [ns]."""

    topic: str
    stamps: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def ages(self) -> np.ndarray:
        """From stamp to arrival [s], float64 (N,)."""
        return (np.array(self.arrivals, dtype=np.int64) - np.array(self.stamps, dtype=np.int64)) / 1e9

    @property
    def gaps(self) -> np.ndarray:
        """Between arrivals [s], float64 (N - 1,)."""
        return np.diff(np.array(self.arrivals, dtype=np.int64)) / 1e9

    @property
    def steps(self) -> np.ndarray:
        """Between stamps [s], float64 (N - 1,)."""
        return np.diff(np.array(self.stamps, dtype=np.int64)) / 1e9

    @property
    def rate(self) -> float:
        """Messages per second; 0 where too few came."""
        return 1.0 / float(self.gaps.mean()) if len(self) > 1 and self.gaps.mean() > 0 else 0.0


@dataclass
class Images(Stream):
    """Of one camera. sizes: (width, height) that came; repeats: how many images in a row are equal to the last, byte by
    byte; raw: the last message, until it is read; image: the last one, uint8 (H, W, 3) RGB, None where it could not be
    read; error: why; bytes_each: of the last message."""

    sizes: set[tuple[int, int]] = field(default_factory=set)
    encodings: set[str] = field(default_factory=set)
    frames: set[str] = field(default_factory=set)
    digest: bytes = b""
    repeats: int = 0
    raw: Any = None
    image: np.ndarray | None = None
    error: str = ""
    bytes_each: int = 0


@dataclass
class Joints(Stream):
    """Joint states, of all that publish them. positions: the last of each joint, in ROS units; errors: what is wrong
    with single messages."""

    positions: dict[str, float] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)


@dataclass
class Ticks(Stream):
    """Status of one arm's controller. ticks, missed: at the first and the last."""

    ticks: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    state: int = 0
    fault: str = ""
    shadow: bool = False


@dataclass(frozen=True)
class Report:
    """One entry of /diagnostics, the last of its name."""

    name: str
    level: int
    message: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Thinking:
    """What a policy that runs says of itself. latency, late: from capture to chunk, median and 95th percentile [s]."""

    active: bool
    checkpoint: str
    norm_tag: str
    latency: float
    late: float
    trouble: str


@dataclass
class Heard:
    """cameras: by name, in the model's order; arms: by name; policy: None where none runs."""

    cameras: dict[str, Images]
    joints: dict[tuple[str, ...], Joints]    # by the joints that are published together
    joint_topic: str
    arms: dict[str, Ticks]
    reports: dict[str, Report] = field(default_factory=dict)
    policy: Thinking | None = None

    def state(self, names: tuple[str, ...]) -> np.ndarray | None:
        """Positions of joints, float64 (len(names),); None where one was not heard or is not a number."""
        positions = {name: value for group in self.joints.values() for name, value in group.positions.items()}
        state = np.array([positions.get(name, np.nan) for name in names])
        return state if np.isfinite(state).all() else None

    @property
    def streams(self) -> list[Stream]:
        """What comes from sensors: cameras, then joint states."""
        return [*self.cameras.values(), *self.joints.values()]
