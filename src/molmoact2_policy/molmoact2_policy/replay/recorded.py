# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded inferences with the very messages they used. Nothing here infers."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..bags.bag import Bag, BagError, stamp_ns
from ..ingest import IMAGE, positions_digest
from ..report.run import CHUNKS, TRACES

TRACE_TYPE = "molmoact2_msgs/msg/ReasoningTrace"
NEEDED = ("prefix", "prefix_overlap", "clock_before")    # without these an inference cannot be repeated
PATIENCE_NS = 5_000_000_000            # of bag time after a trace, for an input that was received later than it

Key = tuple[Any, ...]                  # (topic, stamp [ns]) of an input, (CHUNKS, episode, number) of a chunk


@dataclass(frozen=True)
class Recorded:
    """One recorded inference.

    trace, receive_ns: its ReasoningTrace and when that was received. chunk: its ActionChunk; None where it was held
    back or is not in the bag. images: in model order; joint_states. missing: what of the inputs is not in the bag, in
    words; where it says something, images and joint_states are not complete.
    """

    trace: Any
    receive_ns: int
    chunk: Any | None
    images: tuple[Any, ...]
    joint_states: tuple[Any, ...]
    missing: str = ""

    @property
    def name(self) -> str:
        return str(self.trace.trace_id)


@dataclass
class Needs:
    """How many traces want each message, and how many traces there are: what must be known before reading on."""

    wanted: Counter[Key] = field(default_factory=Counter)
    traces: int = 0


def wanted_by(trace: Any) -> Counter[Key]:
    """The inputs of a trace. Several controllers may publish joint states of one stamp on one topic."""
    return Counter((item.topic, stamp_ns(item.stamp)) for item in trace.inputs)


def chunk_of(trace: Any) -> Key:
    return (CHUNKS, trace.episode_id, int(trace.chunk_id))


def read_needs(bag: Bag) -> Needs:
    """Reads every trace once. Errors: BagError for traces that lack what replay needs."""
    kind = bag.types.get(TRACES)
    if kind not in (None, TRACE_TYPE):
        raise BagError(f"bag {bag.path}: {TRACES} holds {kind}, not {TRACE_TYPE}; its traces cannot be read")
    fields = bag.fields(TRACE_TYPE)
    lacking = [name for name in NEEDED if fields and name not in fields]
    if lacking:
        raise BagError(
            f"bag {bag.path}: its traces lack {', '.join(lacking)}, they are of an older version of {TRACE_TYPE}; "
            "record anew, or run over its images with --fresh"
        )
    needs = Needs()
    for _, _, trace, _ in bag.messages({TRACES}):
        needs.traces += 1
        needs.wanted.update(set(wanted_by(trace)))
        if trace.chunk_id:
            needs.wanted[chunk_of(trace)] += 1
    return needs


class _Pool:
    """Keeps messages that traces want until the last of these has had them.

    topics: name in the bag -> in the traces.
    """

    def __init__(self, needs: Needs, topics: Mapping[str, str]):
        self._wanted, self._topics = needs.wanted, topics
        self._kept: dict[Key, list[Any]] = defaultdict(list)

    def put(self, topic: str, message: Any) -> None:
        if topic == CHUNKS:
            key: Key = (CHUNKS, message.episode_id, int(message.chunk_id))
        else:
            key = (self._topics.get(topic, topic), stamp_ns(message.header.stamp))
        if self._wanted[key] > 0:
            self._kept[key].append(message)

    def found(self, key: Key) -> list[Any]:
        return self._kept.get(key, [])

    def complete(self, trace: Any) -> bool:
        enough = all(len(self.found(key)) >= count for key, count in wanted_by(trace).items())
        return enough and (not trace.chunk_id or bool(self.found(chunk_of(trace))))

    def take(self, trace: Any, receive_ns: int) -> Recorded:
        chunk = next(iter(self.found(chunk_of(trace))), None) if trace.chunk_id else None
        images, joints, missing = list[Any](), list[Any](), list[str]()
        for (topic, stamp), count in wanted_by(trace).items():
            found, kind = self.found((topic, stamp)), self._kind(trace, topic)
            what = "image" if kind == IMAGE else "joint state"
            what += f" of {topic} stamped {stamp // 10**9}.{stamp % 10**9:09d}"
            if len(found) < count:
                there = "not" if count == 1 else f"{len(found)} of {count}"
                missing.append(f"{what}: {there} in the bag")
            elif len(found) > count:
                found = self._used(trace, topic, stamp)
                if len(found) != count:
                    missing.append(f"{what}: several in the bag, and none is known to be the one that was used")
            (images if kind == IMAGE else joints).extend(found)
        self._release(trace)
        return Recorded(trace, receive_ns, chunk, tuple(images), tuple(joints), "; ".join(missing))

    def _used(self, trace: Any, topic: str, stamp: int) -> list[Any]:
        """Of several messages with one stamp, as of two arms, those whose positions the trace knows."""
        used = {
            bytes(bytearray(item.digest)) for item in trace.inputs
            if item.kind != IMAGE and (item.topic, stamp_ns(item.stamp)) == (topic, stamp)
        }
        return [message for message in self.found((topic, stamp)) if positions_digest(message) in used]

    @staticmethod
    def _kind(trace: Any, topic: str) -> int:
        return next(int(item.kind) for item in trace.inputs if item.topic == topic)

    def _release(self, trace: Any) -> None:
        keys = list(wanted_by(trace)) + ([chunk_of(trace)] if trace.chunk_id else [])
        for key in keys:
            self._wanted[key] -= 1
            if self._wanted[key] <= 0:
                del self._wanted[key]
                self._kept.pop(key, None)


def read_recorded(
    bag: Bag, needs: Needs, renamed: Mapping[str, str], joint_topic: str, hear: Callable[[Any], None]
) -> Iterator[Recorded]:
    """The inferences of a bag in the order of their traces; holds only messages that a trace to come still wants.

    needs: of this bag; used up. renamed: name of a topic in the traces -> in the bag, where they differ. hear: called
    with every joint state on joint_topic.
    """
    topics = {renamed.get(key[0], key[0]): key[0] for key in needs.wanted if key[0] != CHUNKS}
    pool, waiting = _Pool(needs, topics), deque[tuple[Any, int]]()
    for topic, _, message, receive_ns in bag.messages({*topics, CHUNKS, TRACES, joint_topic}):
        if topic == joint_topic:
            hear(message)
        if topic == TRACES:
            waiting.append((message, receive_ns))
        else:
            pool.put(topic, message)
        while waiting and (pool.complete(waiting[0][0]) or receive_ns > waiting[0][1] + PATIENCE_NS):
            yield pool.take(*waiting.popleft())
    while waiting:
        yield pool.take(*waiting.popleft())
