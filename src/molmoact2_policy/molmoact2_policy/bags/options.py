# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What to record and how, checked, from a command line or from the parameters of a node."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from molmoact2_contract import Contract, System

from .errors import BagError
from .pictures import EXACT, MODES
from .recorder import JPEG_QUALITY, MIN_FREE, QUEUE_BYTES
from .topics import topics_of
from .writer import STORAGES, Limits

MB = 1_000_000


@dataclass(frozen=True)
class Options:
    """topics: names of what to record; empty: all of the robot's. path: the bag's folder. Sizes in bytes, 0: no limit.

    Errors on construction: BagError that names the option.
    """

    path: Path
    contract: Contract | None = None
    system: System | None = None
    topics: tuple[str, ...] = ()
    storage: str = "mcap"
    images: str = EXACT
    jpeg_quality: int = JPEG_QUALITY
    limits: Limits = field(default_factory=Limits)
    queue_bytes: int = QUEUE_BYTES
    min_free: int = MIN_FREE

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise BagError(f"storage {self.storage!r} is not known; there are: {', '.join(STORAGES)}")
        if self.images not in MODES:
            raise BagError(f"images {self.images!r} is not known; there are: {', '.join(MODES)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise BagError(f"jpeg_quality is {self.jpeg_quality}; it must be 1 … 100")
        for name, value in (("max_size", self.limits.bytes), ("max_seconds", self.limits.seconds),
                            ("min_free", self.min_free)):
            if not 0 <= value < float("inf"):
                raise BagError(f"{name} is {value:g}; it must be 0 (no limit) or more")
        if self.queue_bytes <= 0:
            raise BagError(f"queue is {self.queue_bytes} bytes; it must hold something")
        if self.contract is None and not self.topics:
            raise BagError("nothing to record: name a system, a contract or topics")

    def known_topics(self) -> dict[str, type]:
        """Those of the robot's topics that are recorded, with their types."""
        known = topics_of(self.contract) if self.contract else {}
        wanted = {full(topic) for topic in self.topics}
        return {topic: kind for topic, kind in known.items() if not wanted or full(topic) in wanted}

    def unknown_topics(self) -> list[str]:
        """Those whose types only the running graph knows."""
        known = {full(topic) for topic in self.known_topics()}
        return [topic for topic in dict.fromkeys(self.topics) if full(topic) not in known]

    def ros2_command(self) -> str:
        """What records the same topics with rosbag2 on a ROS distribution."""
        words = ["ros2", "bag", "record", "--storage", self.storage, "--output", str(self.path)]
        if self.limits.bytes:
            words += ["--max-bag-size", str(self.limits.bytes)]
        if self.limits.seconds:
            words += ["--max-bag-duration", f"{self.limits.seconds:.0f}"]
        words += ["--topics", *(full(topic) for topic in [*self.known_topics(), *self.unknown_topics()])]
        return shlex.join(words)


def full(topic: str) -> str:
    """Full name of a topic outside of any namespace."""
    return topic if topic.startswith("/") else f"/{topic}"
