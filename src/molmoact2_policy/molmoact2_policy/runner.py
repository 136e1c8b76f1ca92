# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The inference loop, in a thread of its own: newest observation in, chunk and trace out. No ROS here."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from molmoact2_contract import Contract, NormTag

from .backend import Backend, BackendError, Inference, Unanswered
from .camera_health import CameraHealth
from .continuity import Continuity, Prefix
from .ingest import Ingest, Observation, ObservationError
from .model_frame import ModelFrame
from .state_health import StateHealth

LATENCY_WINDOW = 200
MOST_UNANSWERED = 5    # inferences in a row without an action; then something is wrong with more than a frame
MARGIN = 0.05    # [s]; a chunk shall arrive this long before the running one ends
SLOW = 2.0    # [s]; an inference under way that takes longer is spoken of
END_WITHIN = 3.0    # [s]; an inference that is under way at a stop may take so long, or is left to itself
LOOK = 0.02    # [s]; how often it is looked whether motion would pause
WAIT = 0.2    # [s]; how often a waiting loop looks whether it should end


class Source(Protocol):
    """Where message sets come from."""

    def wait(self, timeout: float) -> Any:
        """The newest set of messages (images, joint_states); None when none came within `timeout` seconds."""

    def explain(self, now_ns: int) -> str:
        """Why no set comes; asked after some time without one."""


@dataclass(frozen=True)
class Outcome:
    """One inference, ready to be published.

    actions: float64 (H, D) in ROS units. number: counts the inferences. withheld: why the chunk must not be published;
    empty where it may. chunk_id: 0 where it is withheld. prefix: the running chunk that was to be continued.
    started_ns, finished_ns: ROS time.
    """

    observation: Observation
    inference: Inference
    actions: np.ndarray
    instruction: str
    episode_id: str
    number: int
    chunk_id: int
    withheld: str
    warnings: tuple[str, ...]
    prefix: Prefix | None
    started_ns: int
    finished_ns: int

    @property
    def frozen(self) -> int:
        """Waypoints held to the running chunk."""
        return self.prefix.frozen if self.prefix and self.inference.guided else 0


@dataclass
class Statistics:
    """Since activation."""

    inferences: int = 0
    chunks: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    chunk_times: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    drops: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """Latency from capture to publication [s]; 0 before the first."""
        return float(np.percentile(list(self.latencies), 100 * share)) if self.latencies else 0.0


def ask(
    backend: Backend, frame: ModelFrame, observation: Observation, instruction: str, seed: int | None,
    prefix: Prefix | None,
) -> tuple[Inference, np.ndarray, tuple[str, ...]]:
    """One inference, live or replayed: its result, the actions in ROS units float64 (H, D), and what is to be remarked.

    Errors: Unanswered, BackendError.
    """
    inference = backend.infer(observation.images, observation.model_state, instruction, seed, prefix)
    actions, remarks = frame.actions_to_ros(inference.actions)
    if not np.isfinite(actions).all():
        raise BackendError("the model asked for positions that are not numbers")
    return inference, actions, (*inference.trace.warnings, *remarks)


def no_answers(count: int, last: Unanswered) -> str:
    """Why a policy fails after so many inferences in a row without an action."""
    return f"{count} inferences in a row gave no action, the last because: {last}"


class Runner:
    """Runs inference on the newest observation while active.

    deliver: called in the inference thread with each Outcome, while no reset can come between. failed: called when the
    backend failed, after which the loop has ended. min_period [s]: between the starts of two inferences, except where
    motion would pause for it. least_latency [s]: from capture on, an inference lasts so long at least; in simulations,
    to see what a slower engine would do. seed: None draws a new one for each inference. chunk_ids: the ids to give to
    chunks, in order. check_frozen: whether a camera that repeats one frame stops chunks.
    """

    def __init__(
        self,
        contract: Contract,
        tag: NormTag,
        backend: Backend,
        *,
        check_frozen: bool,
        joint_topic: str,
        min_period: float,
        seed: int | None,
        chunk_ids: Iterator[int],
        ros_now: Callable[[], int],
        deliver: Callable[[Outcome], None],
        failed: Callable[[str], None],
        least_latency: float = 0.0,
    ):
        self._contract, self._backend, self._joint_topic = contract, backend, joint_topic
        self._min_period, self._seed, self._ros_now = min_period, seed, ros_now
        self._least_latency_ns = round(least_latency * 1e9)
        self._chunk_ids, self._deliver, self._failed = chunk_ids, deliver, failed
        self._ingest, self._frame = Ingest(contract, tag), ModelFrame(contract, tag)
        self._cameras = CameraHealth(contract, tag, check_frozen)
        self.state_health = StateHealth(contract)
        self.continuity = Continuity(tag.dt, tag.first_offset, MARGIN)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._number = 0
        self._began: float | None = None    # the inference under way, steady clock [s]
        self._reset_wanted = False
        self._held_back = ""
        self.arms = tuple(contract.arms)
        self.last_chunk_id = 0
        self.statistics = Statistics()
        self.episode_id = uuid.uuid4().hex
        self.instruction = ""
        self.withheld = "no observation yet"

    # --- operator -----------------------------------------------------------------------------------------------------
    def start(self, source: Source) -> None:
        """Errors: RuntimeError where the last inference hangs."""
        if self.hangs:
            raise RuntimeError("the inference before the stop has not ended; start the policy's process anew")
        self._stop.clear()
        self.statistics, self.withheld = Statistics(), self._held_back or "no observation yet"
        self._thread = threading.Thread(target=self._run, args=(source,), name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the inference under way; its result is not published. One that does not end is left to
        itself (`hangs`)."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(END_WITHIN)

    @property
    def busy(self) -> float:
        """For how long the inference under way has taken [s]; 0 where there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def hangs(self) -> bool:
        """Whether the loop has been stopped and has not ended."""
        return self._stop.is_set() and self._thread is not None and self._thread.is_alive()

    @property
    def silent_because(self) -> str:
        """Why there are no chunks now, in words; empty where there are."""
        slow = self.busy
        return self.withheld or (f"the inference under way has taken {slow:.0f} s so far" if slow > SLOW else "")

    def check_instruction(self, instruction: str) -> None:
        """Errors: ValueError for one that cannot be followed."""
        if not instruction.strip():
            raise ValueError("the instruction is blank; say what the robot should do")
        self._backend.check_instruction(instruction)

    def set_instruction(self, instruction: str) -> None:
        """Chunks that were held back flow again. Errors: ValueError for one that cannot be followed."""
        self.check_instruction(instruction)
        with self._lock:
            self.instruction = instruction
            if self._held_back:
                self._held_back, self.withheld = "", "no observation yet"

    def hold_back(self, reason: str) -> None:
        """No chunks until an instruction is set, also after a stop and a start. A new episode begins, so that an
        inference under way comes to nothing."""
        with self._lock:
            self._held_back = self.withheld = reason
            self._new_episode()

    def reset(self) -> str:
        """Begins a new episode, whose id is returned; an inference under way comes to nothing."""
        with self._lock:
            self._new_episode()
            return self.episode_id

    def _new_episode(self) -> None:
        self.episode_id, self._reset_wanted = uuid.uuid4().hex, True
        self.continuity.forget()

    # --- inference thread ---------------------------------------------------------------------------------------------
    def _run(self, source: Source) -> None:
        started, unanswered = -self._min_period, 0
        last_set = time.monotonic()
        while not self._stop.is_set():
            pause = self._next_start(started) - time.monotonic()
            if pause > 0:
                self._stop.wait(min(pause, LOOK))    # what controllers say may make it urgent
                continue
            messages = source.wait(WAIT)
            if self._stop.is_set():
                return
            if messages is None:
                if time.monotonic() - last_set > self._contract.max_observation_age:
                    self.withheld = self._held_back or source.explain(self._ros_now())
                continue
            last_set = time.monotonic()
            held_back = self._held_back
            if held_back:
                self.withheld = held_back
                continue
            started = self._began = last_set
            try:
                self._infer(messages.images, messages.joint_states)
                unanswered = 0
            except ObservationError as error:
                self.statistics.drops[error.kind] += 1
                self.withheld = str(error)
            except Unanswered as error:
                self.statistics.drops[error.kind] += 1
                self.withheld = str(error)
                unanswered += not error.passing
                if unanswered >= MOST_UNANSWERED:
                    self._failed(no_answers(unanswered, error))
                    return
            except BackendError as error:
                self._failed(f"inference failed: {error}")
                return
            except Exception as error:    # a defect of ours: no more chunks, and said so
                self._failed(f"the policy failed in itself: {error!r}")
                return
            finally:
                self._began = None

    def _next_start(self, started: float) -> float:
        """When to look for the next observation, monotonic [s]: after min_period, or earlier so that motion goes on."""
        now = self._ros_now() / 1e9
        wanted, latest = started + self._min_period, self.continuity.latest_start(now)
        if latest is None or self.withheld:
            return wanted
        return min(wanted, time.monotonic() + latest - now)

    def _infer(self, images: Sequence[Any], joint_states: Sequence[Any]) -> None:
        observation = self._ingest.observation(images, joint_states, self._joint_topic)
        started = self._ros_now()
        age = (started - observation.stamp_ns) / 1e9
        if age > self._contract.max_observation_age:
            raise ObservationError(
                "stale", f"the newest observation is {age:.2f} s old, over {self._contract.max_observation_age:g} s"
            )
        if age < -self._contract.skew_limit:
            raise ObservationError(
                "future", f"the newest observation is stamped {-age:.2f} s in the future; check the cameras' clocks"
            )
        with self._lock:
            if not self.instruction:
                raise ObservationError("no_instruction", "no instruction was given; call policy/set_instruction")
            if self._held_back:
                raise ObservationError("held_back", self._held_back)
            episode, instruction, reset = self.episode_id, self.instruction, self._reset_wanted
            self._reset_wanted = False
        if reset:
            self._backend.reset()
            self._cameras.forget()
        problems = (self._cameras.problem(observation), self.state_health.problem(observation))
        problem = "; ".join(filter(None, problems))
        seed = secrets.randbelow(2**63) if self._seed is None else self._seed
        prefix = self.continuity.prefix(observation.stamp_ns / 1e9)
        try:
            inference, actions, warnings = ask(self._backend, self._frame, observation, instruction, seed, prefix)
        finally:
            if self._least_latency_ns:
                self._last_until(observation.stamp_ns + self._least_latency_ns, episode)
        with self._lock:
            self.statistics.inferences += 1
            if self._stop.is_set() or episode != self.episode_id:
                self.statistics.drops["episode_over"] += 1
                return
            self._number += 1
            finished = self._ros_now()
            self.withheld = problem
            chunk_id = 0
            if not problem:
                chunk_id = self.last_chunk_id = next(self._chunk_ids)
                self.statistics.chunks += 1
                latency = (finished - observation.stamp_ns) / 1e9
                self.statistics.latencies.append(latency)
                self.statistics.chunk_times.append(time.monotonic())
                self.continuity.delivered(chunk_id, observation.stamp_ns / 1e9, inference.actions, latency)
            self._deliver(
                Outcome(
                    observation, inference, actions, instruction, episode, self._number, chunk_id, problem, warnings,
                    prefix, started, finished,
                )
            )

    def _last_until(self, until_ns: int, episode: str) -> None:
        """The inference under way goes on until then, ROS time, or until nobody wants what comes of it."""
        while not self._stop.is_set() and episode == self.episode_id:
            left = (until_ns - self._ros_now()) / 1e9
            if left <= 0:
                return
            self._stop.wait(min(left, LOOK))
