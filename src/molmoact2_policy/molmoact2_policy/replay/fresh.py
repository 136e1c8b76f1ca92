# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Inferences over the images of a bag, whether or not a policy ran when it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from molmoact2_contract import NormTag

from ..backend import Backend, Unanswered
from ..bags.bag import Bag, stamp_ns
from ..ingest import Ingest, ObservationError
from ..matcher import Matching, MessageSet
from ..messages import chunk_message, trace_id, trace_message
from ..model_frame import ModelFrame
from ..report.run import resolved
from ..runner import Outcome, ask
from .embodied import Embodied
from .rerun import RecordedClock, Result

EPISODE = "replay"


@dataclass(frozen=True)
class Taken:
    """A set of messages, and when the inference on it begins, ROS time [ns]."""

    messages: MessageSet
    started_ns: int


class _Held:
    """An image with a header of ROS' own type, which the synchronizer asks for."""

    def __init__(self, message: Any):
        stamp = message.header.stamp
        self.header = Header(stamp=Time(sec=int(stamp.sec), nanosec=int(stamp.nanosec)))
        self.message = message


def read_sets(
    bag: Bag, robot: Embodied, tag: NormTag, hear: Callable[[Any], None]
) -> Iterator[tuple[MessageSet | None, int]]:
    """After each message, the set that the live node would have had by it, else None, and the time of reception.

    hear: called with every joint state.
    """
    cameras = {resolved(robot.contract.cameras[name].topic): robot.contract.cameras[name].topic for name in tag.cameras}
    matching = Matching(robot.contract, tag, robot.joint_topic)
    for topic, _, message, receive_ns in bag.messages({*cameras, robot.joint_topic}):
        if topic == robot.joint_topic:
            joints = robot.joint_state(message)
            hear(joints)
            matching.take(topic, joints)
        else:
            matching.take(cameras[topic], _Held(message))
        found = matching.wait(0.0)
        if found is not None:
            found = MessageSet(tuple(held.message for held in found.images), found.joint_states)
        yield found, receive_ns


class Timing:
    """Which sets an inference takes: every one (`latency` is None), or the newest whenever the one before it is done.

    latency: gives how long the next inference takes [s]. min_period [s]: least time between two starts.
    """

    def __init__(self, latency: Callable[[], float] | None, min_period: float):
        self._latency, self._min_period = latency, min_period
        self.passed_over = 0

    def taken(self, sets: Iterator[tuple[MessageSet | None, int]]) -> Iterator[Taken]:
        if self._latency is None:
            yield from (Taken(messages, now) for messages, now in sets if messages is not None)
            return
        newest: Taken | None = None
        free_ns = 0
        for messages, now in sets:
            if newest is not None and free_ns < now:
                start = max(free_ns, newest.started_ns)
                yield Taken(newest.messages, start)
                free_ns = start + round(max(self._latency(), self._min_period) * 1e9)
                newest = None
            if messages is not None:
                self.passed_over += newest is not None
                newest = Taken(messages, now)
        if newest is not None:
            yield Taken(newest.messages, max(free_ns, newest.started_ns))


class Fresh:
    """Makes inferences as the live node would, in one episode, with one seed, and no running chunk to continue."""

    def __init__(
        self, robot: Embodied, tag: NormTag, backend: Backend, clock: RecordedClock, instruction: str, seed: int
    ):
        self._robot, self._tag, self._backend, self._clock = robot, tag, backend, clock
        self._instruction, self._seed, self._number = instruction, seed, 0
        self._ingest, self._frame = Ingest(robot.contract, tag), ModelFrame(robot.contract, tag)
        self.last_seconds = 0.0

    def infer(self, taken: Taken) -> Result:
        """Errors: BackendError."""
        images, joints = taken.messages.images, taken.messages.joint_states
        name, started = f"image {stamp_ns(images[0].header.stamp)}", taken.started_ns
        self._clock.tell(started / 1e9, started / 1e9 + self.last_seconds)
        try:
            observation = self._ingest.observation(images, joints, self._robot.joint_topic)
            age, limit = (started - observation.stamp_ns) / 1e9, self._robot.contract.max_observation_age
            if age > limit:
                raise ObservationError("stale", f"it was {age:.2f} s old when its turn came, over {limit:g} s")
            inference, actions, warnings = ask(
                self._backend, self._frame, observation, self._instruction, self._seed, None
            )
        except (ObservationError, Unanswered) as error:
            return Result(name, started, started, str(error))
        self._number += 1
        self.last_seconds = inference.trace.timings["total"]
        finished = started + round(self.last_seconds * 1e9)
        outcome = Outcome(
            observation, inference, actions, self._instruction, EPISODE, self._number, self._number, "", warnings, None,
            started, finished,
        )
        trace = trace_message(outcome, self._tag, self._robot.live_name)
        chunk = chunk_message(outcome, self._robot.contract, self._tag)
        return Result(trace_id(outcome), started, finished, "", None, trace, chunk, None, self.last_seconds)
