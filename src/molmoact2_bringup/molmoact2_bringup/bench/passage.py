# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From the arrival of the newest image to the published chunk, less the model: arithmetic on times that were noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

WARM_UP = 10    # first chunks that are left out


@dataclass(frozen=True)
class Arrival:
    """Of a set of images: when the middleware of the policy's process had the newest, and when the node had all."""

    arrived_ns: int
    taken_ns: int


@dataclass(frozen=True)
class Chunk:
    """One chunk, as its messages tell. stamp_ns: its images were sent; started_ns: their pixels lay ready; finished_ns:
    the actions were there; published_ns: the middleware had the chunk; model [s]."""

    stamp_ns: int
    started_ns: int
    finished_ns: int
    published_ns: int
    model: float


@dataclass(frozen=True)
class Passage:
    """The way of one chunk [s]. carried: from its images' stamp to the newest one's arrival. taken: until the node has
    all; read: until their pixels lie ready; rest: checks, actions, message, publishing."""

    carried: float
    taken: float
    read: float
    rest: float
    model: float

    @property
    def added(self) -> float:
        """All from the newest image's arrival to the published chunk but the model."""
        return self.taken + self.read + self.rest


PARTS = ("added", "taken", "read", "rest", "carried", "model")


@dataclass(frozen=True)
class RosPath:
    """transport: of the images. times: p50 and p95 [s] by name of PARTS. count: of chunks. busy: chunks that are left
    out, since their newest image came while the model was at work on another, and waited for it."""

    transport: str
    times: dict[str, tuple[float, float]]
    count: int
    busy: int


def passages(chunks: Iterable[Chunk], arrivals: Mapping[int, Arrival]) -> tuple[list[Passage], int]:
    """Those of the chunks whose images found the policy waiting, and the number of the others.

    arrivals: by stamp of the images. Errors: KeyError for a chunk of images that never came.
    """
    found, busy, free_ns = [], 0, 0
    for number, chunk in enumerate(sorted(chunks, key=lambda chunk: chunk.started_ns)):
        arrival = arrivals[chunk.stamp_ns]
        waited, free_ns = arrival.arrived_ns < free_ns, chunk.finished_ns
        if number < WARM_UP:
            continue
        if waited:
            busy += 1
        else:
            found.append(
                Passage(
                    carried=(arrival.arrived_ns - chunk.stamp_ns) / 1e9,
                    taken=(arrival.taken_ns - arrival.arrived_ns) / 1e9,
                    read=(chunk.started_ns - arrival.taken_ns) / 1e9,
                    rest=(chunk.published_ns - chunk.started_ns) / 1e9 - chunk.model,
                    model=chunk.model,
                )
            )
    return found, busy


def figures(transport: str, chunks: Iterable[Chunk], arrivals: Mapping[int, Arrival]) -> RosPath:
    """Errors: RuntimeError where no chunk is left to judge by."""
    found, busy = passages(chunks, arrivals)
    if not found:
        raise RuntimeError(
            f"ROS path, {transport} images: of {busy} chunks all waited for the model; it is too slow here for the "
            "cameras' rate"
        )
    times = {name: _shares([getattr(passage, name) for passage in found]) for name in PARTS}
    return RosPath(transport, times, len(found), busy)


def _shares(values: list[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(values, [50, 95])
    return float(p50), float(p95)
