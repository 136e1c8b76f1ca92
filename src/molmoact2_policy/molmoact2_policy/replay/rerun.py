# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded inferences, made again by the same code that made them live."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from molmoact2_contract import NormTag
from molmoact2_msgs.msg import ActionChunk, ReasoningTrace

from ..backend import Backend, Unanswered
from ..bags.bag import stamp_ns
from ..continuity import Prefix
from ..ingest import IMAGE, Ingest, ObservationError
from ..messages import chunk_message, trace_message
from ..model_frame import ModelFrame
from ..runner import Outcome, ask
from .embodied import Embodied
from .equality import Equality, compare
from .recorded import Recorded

# Depth modes of an adaptive session, whose codes depend on those before.
FOLLOWING = (ReasoningTrace.DEPTH_ADAPTIVE, ReasoningTrace.DEPTH_ADAPTIVE_VERIFIED, ReasoningTrace.DEPTH_FORCED)
GIVEN_CAUSES = ("first_call", "reset", "call_failed")    # of a full pass: what happened to the session, not what it saw


class RecordedClock:
    """The clock by which the recorded session judged pauses: gives the readings it was told, the last one on and on."""

    def __init__(self) -> None:
        self._readings = deque([0.0])

    def tell(self, *readings: float) -> None:
        self._readings = deque(readings)

    def __call__(self) -> float:
        return self._readings.popleft() if len(self._readings) > 1 else self._readings[0]


@dataclass(frozen=True)
class Result:
    """What came of one inference.

    name: its trace's id. receive_ns: its time in the bag. ready_ns: when its result was or would have been ready, ROS
    time. why_not: why it was not made; then trace and what follows it are None. recorded: None where none was.
    equality: with the recorded one. seconds: in the backend.
    """

    name: str
    receive_ns: int
    ready_ns: int
    why_not: str = ""
    recorded: Recorded | None = None
    trace: ReasoningTrace | None = None
    chunk: ActionChunk | None = None
    equality: Equality | None = None
    seconds: float = 0.0


class Rerun:
    """Makes recorded inferences again, one after the other in their order.

    backend: loaded, its clock is `clock`. follows: whether adaptive codes shall follow from those of the recorded
    inference before; if so, what comes after one that cannot be made again waits for the next recorded full pass.
    instruction: another than the recorded ones, where it is given.
    """

    def __init__(
        self, robot: Embodied, tag: NormTag, backend: Backend, clock: RecordedClock, follows: bool, instruction: str
    ):
        self._robot, self._tag, self._backend, self._clock = robot, tag, backend, clock
        self._follows, self._instruction = follows, instruction
        self._ingest, self._frame = Ingest(robot.contract, tag), ModelFrame(robot.contract, tag)
        self._episode, self._number = "", 0
        self._lost = "the bag begins after the last full depth pass before it"

    def repeat(self, recorded: Recorded, why_not: str = "") -> Result:
        """why_not: what else speaks against it. Errors: BackendError."""
        trace = recorded.trace
        cannot = self._cannot_follow(trace)
        why_not = why_not or recorded.missing or cannot
        if why_not:
            return self._give_up(recorded, why_not)
        try:
            joint_topic = next((item.topic for item in trace.inputs if item.kind != IMAGE), "")
            joint_states = [self._robot.joint_state(message) for message in recorded.joint_states]
            observation = self._ingest.observation(recorded.images, joint_states, joint_topic)
            self._clock.tell(*readings(trace))
            prefix = _prefix(trace)
            seed = int(trace.noise_seed) if trace.noise_seeded else None
            instruction = self._instruction or trace.instruction
            inference, actions, warnings = ask(self._backend, self._frame, observation, instruction, seed, prefix)
        except (ObservationError, Unanswered, ValueError) as error:    # ValueError: a trace that contradicts itself
            return self._give_up(recorded, str(error))
        started = stamp_ns(trace.started)
        seconds = inference.trace.timings["total"]
        outcome = Outcome(
            observation, inference, actions, instruction, trace.episode_id, _number(trace), int(trace.chunk_id),
            trace.withheld, warnings, prefix, started, started + round(seconds * 1e9),
        )
        new = trace_message(outcome, self._tag, self._robot.live_name)
        chunk = chunk_message(outcome, self._robot.contract, self._tag)
        equality = compare(trace, new, recorded.chunk, chunk)
        return Result(
            recorded.name, recorded.receive_ns, stamp_ns(trace.finished), "", recorded, new, chunk, equality, seconds
        )

    def _give_up(self, recorded: Recorded, why: str) -> Result:
        if self._follows and not self._lost:
            self._lost = f"depends on {recorded.name}, which could not be made again"
        return Result(recorded.name, recorded.receive_ns, stamp_ns(recorded.trace.finished), why, recorded)

    def _cannot_follow(self, trace: Any) -> str:
        """Brings the session to where the recorded one was; why that cannot be, empty where it can."""
        episode, number = self._episode, self._number
        self._episode, self._number = trace.episode_id, _number(trace)
        if self._number not in (number + 1, 1) and not self._lost:
            self._lost = f"depends on a trace that is not in the bag: the {number + 1}th of the policy"
        if trace.episode_id != episode:
            self._backend.reset()
        if not self._follows or trace.depth_mode not in FOLLOWING:
            return ""
        forced = trace.depth_mode == ReasoningTrace.DEPTH_FORCED
        if self._lost and not forced:
            return f"{self._lost}; goes on at the next full pass"
        if forced and (self._lost or trace.cause in GIVEN_CAUSES):
            self._backend.reset(trace.cause)
            self._lost = ""
        return ""


def _number(trace: Any) -> int:
    """The number of a trace in its policy's count; 0 where its id has none."""
    number = str(trace.trace_id).rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def readings(trace: Any) -> tuple[float, float]:
    if trace.clock_after:
        return float(trace.clock_before), float(trace.clock_after)
    return stamp_ns(trace.started) / 1e9, stamp_ns(trace.finished) / 1e9


def _prefix(trace: Any) -> Prefix | None:
    if not len(trace.prefix):
        return None
    actions = np.asarray(trace.prefix, np.float32).reshape(-1, len(trace.model_state))
    return Prefix(actions, int(trace.prefix_frozen), int(trace.prefix_overlap))
