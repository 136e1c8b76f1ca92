# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attempts without ROS and faster than real time: the simulated arm, the controller's own objects and the engine, in
one thread, on a clock that the simulation turns. What a running system adds (transport, load, jitter) is not in it.

When an inference may begin, when it counts as done, and what ends a task, is as in molmoact2_policy's runner."""

from __future__ import annotations

import time
from dataclasses import dataclass

import mujoco
import numpy as np

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.driver import ArmDriver, ArmState
from arm_controller.operating import Operator
from molmoact2_contract import Contract, NormTag
from molmoact2_policy.backend import Backend, BackendError, Inference, Unanswered
from molmoact2_policy.camera_health import CameraHealth
from molmoact2_policy.continuity import Continuity, Heard
from molmoact2_policy.ingest import IMAGE, Input, Observation
from molmoact2_policy.model_frame import ModelFrame
from molmoact2_policy.runner import MARGIN, MOST_UNANSWERED, ask, no_answers
from molmoact2_policy.tasks import ArmStatus, Cause, Ended, Goal, State, TaskRun
from mujoco_driver.judge import Judge
from mujoco_driver.render import Eyes
from mujoco_driver.tabletop import RATE, Tabletop

from .attempts import AS_IT_IS, Attempt, Condition
from .disturbance import Disturbance
from .truth import FILM_EVERY

STATUS_PERIOD = 0.3    # [s] between two words of the policy
EPISODE = "evaluation"
BEGIN_NS = 1_000_000_000


@dataclass
class Clock:
    """Of the simulation. It begins anew with each attempt, so that none depends on those before."""

    now_ns: int = BEGIN_NS

    def seconds(self) -> float:
        return self.now_ns / 1e9


class SteppedArm(ArmDriver):
    """The arm of a scene that this thread steps."""

    real = False

    def __init__(self, table: Tabletop, clock: Clock):
        self._table, self._clock = table, clock

    def connect(self) -> None: ...

    def read(self) -> ArmState:
        return ArmState(self._table.to_ros(self._table.joints()), self._clock.now_ns)

    def write(self, positions: np.ndarray) -> None:
        goal = np.clip(self._table.to_servo(positions), *self._table.limits.T)
        self._table.data.ctrl[:] = self._table.command = goal

    def stop(self) -> None:
        self.write(self.read().positions)

    def close(self) -> None: ...

    def advance(self, seconds: float) -> None:
        mujoco.mj_step(self._table.model, self._table.data, round(seconds / self._table.model.opt.timestep))
        self._clock.now_ns += round(1e9 * seconds)


@dataclass(frozen=True)
class Bench:
    """One robot and one engine. clock: the engine's too, if it asks how long it has not looked. min_period: between the
    starts of two inferences [s]; camera_period: between two images [s]; seed: of every inference, None: of the attempt
    and the inference; check_frozen: whether a camera that repeats one frame stops chunks."""

    contract: Contract
    tag: NormTag
    backend: Backend
    table: Tabletop
    eyes: Eyes
    clock: Clock
    arm: str
    min_period: float
    camera_period: float = 1 / 15
    seed: int | None = None
    check_frozen: bool = False

    def attempt(self, condition: Condition, seed: int, cube: str, instruction: str) -> Attempt:
        """One try in the scene of that seed."""
        self.clock.now_ns = BEGIN_NS
        self.table.reset(seed)
        self.backend.reset()
        return _Flight(self, condition, Attempt(seed, cube, instruction)).run()

    def close(self) -> None:
        self.eyes.close()


@dataclass(frozen=True)
class _Request:
    """An inference under way. arrives_ns: when it is over; answer: what it gives, with the actions float64 (H, D) in
    ROS units, or why nothing; withheld: why its chunk must not be followed."""

    stamp_ns: int
    arrives_ns: int
    answer: tuple[Inference, np.ndarray] | Unanswered
    withheld: str


class _Flight:
    """One attempt: images are taken, inferences begin, chunks arrive, and ticks go by."""

    def __init__(self, bench: Bench, condition: Condition, attempt: Attempt):
        self._bench, self._condition, self._attempt = bench, condition, attempt
        self._judge = Judge(bench.table, condition.task, attempt.cube, condition.patience)
        self._driver, self._clock = SteppedArm(bench.table, bench.clock), bench.clock
        self._controller = ArmController(
            bench.contract, bench.contract.arm(bench.arm), self._driver, shadow=False, joining=condition.joining,
            when_late=condition.when_late, stopwatch=bench.clock.seconds,
        )
        self._continuity = Continuity(bench.tag.dt, bench.tag.first_offset, MARGIN)
        self._frame = ModelFrame(bench.contract, bench.tag)
        self._cameras = CameraHealth(bench.contract, bench.tag, bench.check_frozen)
        self._disturbed = Disturbance(condition.disturbance, bench.tag.cameras[0], attempt.seed)
        self._request: _Request | None = None
        self._inferences = self._chunks = self._unanswered = 0
        self._withheld = ""
        self._began_ns, self._spoke_ns, self._used_ns = 0, 0, 0
        self._seen: tuple[int, mujoco.MjData] | None = None    # when, and how things were
        goal = Goal(attempt.instruction, self._judge.limit / RATE, "")
        self._task = TaskRun(goal, [bench.arm], bench.clock.seconds(), bench.clock.now_ns, over=0)

    def run(self) -> Attempt:
        attempt, clock = self._attempt, self._clock
        self._tick()
        Operator(self._controller, lambda: (clock.now_ns, clock.now_ns)).arm()
        start_ns, steps = clock.now_ns, 0
        while steps < self._judge.limit and self._task.ending is None:
            self._tick()
            self._look()
            if self._request is not None and clock.now_ns >= self._request.arrives_ns:
                self._arrive(self._request)
            if self._may_infer():
                self._infer()
            if clock.now_ns >= start_ns + (steps + 1) * 1e9 / RATE:
                if steps % FILM_EVERY == 0:
                    attempt.film.append(self._bench.table.data.qpos.copy())
                steps += 1
                if self._judge.update():
                    attempt.success = True
                    break
        if not attempt.film:    # it ended before the first look
            attempt.film.append(self._bench.table.data.qpos.copy())
        attempt.seconds = (clock.now_ns - start_ns) / 1e9
        attempt.refused = self._controller.counters.refused
        if not attempt.success:
            ending = self._task.ending
            attempt.reason = f"the task ended: {ending.message}" if ending is not None else self._judge.reason()
        return attempt

    def _tick(self) -> None:
        clock, controller = self._clock, self._controller
        if clock.now_ns - self._spoke_ns >= STATUS_PERIOD * 1e9:
            controller.hear_policy(EPISODE, EPISODE, clock.now_ns / 1e9)
            self._spoke_ns = clock.now_ns
        self._driver.advance(controller.period)
        controller.tick(clock.now_ns, clock.now_ns)
        self._hear()

    def _hear(self) -> None:
        """What the controller would state now reaches the policy and the task."""
        controller, state = self._controller, self._controller.state
        heard = Heard(
            self._condition.joining, controller.scheduler.chunk_id, controller.last.consumed, controller.last.latency,
            controller.lag, controller.last.refused_id,
        )
        self._continuity.hear(self._bench.arm, heard, of_this_episode=True)
        self._task.hear_controller(self._bench.arm, ArmStatus(
            State(state.state), controller.reason, state.paused, state.guided, int(state.fault), state.fault_text,
            controller.scheduler.chunk_id, Cause(state.cause), state.waits(controller.now),
        ))    # fmt: skip

    def _look(self) -> None:
        """Takes an image where one is due: how things are, to be drawn if an inference wants it."""
        now = self._clock.now_ns
        if self._seen is None or now - self._seen[0] >= self._bench.camera_period * 1e9:
            data = self._seen[1] if self._seen is not None else mujoco.MjData(self._bench.table.model)
            data.qpos[:] = self._bench.table.data.qpos
            self._seen = now, data

    def _may_infer(self) -> bool:
        """One inference at a time, and each on an image that no other was made of."""
        if self._request is not None or self._seen is None or self._seen[0] <= self._used_ns:
            return False
        return self._clock.now_ns >= self._next_start_ns()

    def _next_start_ns(self) -> float:
        wanted = self._began_ns + self._bench.min_period * 1e9 if self._inferences else 0
        latest = self._continuity.latest_start(self._clock.now_ns / 1e9)
        return wanted if latest is None or self._withheld else min(wanted, latest * 1e9)

    def _observe(self) -> Observation:
        """Draws the newest image."""
        assert self._seen is not None
        bench, (stamp_ns, data) = self._bench, self._seen
        mujoco.mj_kinematics(bench.table.model, data)
        mujoco.mj_camlight(bench.table.model, data)
        seconds = (stamp_ns - BEGIN_NS) / 1e9
        images = {name: self._disturbed(name, image, seconds) for name, image in bench.eyes.look(data)[0].items()}
        state = bench.table.to_ros(data.qpos[bench.table.positions])
        cameras = [bench.contract.cameras[name] for name in bench.tag.cameras]
        return Observation(
            images=tuple(images[camera.name] for camera in cameras), state=state,
            model_state=self._frame.to_model(state), state_stamp_ns=stamp_ns,
            inputs=tuple(Input(IMAGE, c.topic, c.frame_id, stamp_ns, images[c.name]) for c in cameras),
        )

    def _infer(self) -> None:
        observation = self._observe()
        stamp_ns = self._used_ns = observation.stamp_ns
        self._inferences, self._began_ns = self._inferences + 1, self._clock.now_ns
        withheld = self._cameras.problem(observation)
        seed = self._bench.seed if self._bench.seed is not None else self._attempt.seed * 10_000 + self._inferences
        prefix, began = self._continuity.prefix(stamp_ns / 1e9), time.monotonic()
        answer: tuple[Inference, np.ndarray] | Unanswered
        try:
            inference, actions, _ = ask(
                self._bench.backend, self._frame, observation, self._attempt.instruction, seed, prefix
            )
            answer = inference, actions
        except Unanswered as error:
            answer = error
        except BackendError as error:
            self._task.end(Ended.FAULT, f"inference failed: {error}")
            return
        took, latency = time.monotonic() - began, self._condition.latency
        if not isinstance(answer, Unanswered):
            self._count(answer[0], took)
        arrives = self._began_ns + took * 1e9 if latency == AS_IT_IS else stamp_ns + latency * 1e9
        self._request = _Request(stamp_ns, int(max(arrives, self._clock.now_ns)), answer, withheld)

    def _count(self, inference: Inference, took: float) -> None:
        self._attempt.inferences.append(took)
        trace = inference.trace
        if len(trace.refreshed):
            self._attempt.steps.append(int(trace.decoder_steps))
            if self._inferences > 1:    # the first one has nothing to keep
                self._attempt.refreshed.append(float(np.mean(trace.refreshed)))

    def _arrive(self, request: _Request) -> None:
        """An inference is over: its chunk reaches the controller, unless it is withheld or there is none."""
        self._request, self._withheld = None, request.withheld
        if isinstance(request.answer, Unanswered):
            self._withheld = str(request.answer)
            self._unanswered += not request.answer.passing
            if self._unanswered >= MOST_UNANSWERED:
                self._task.end(Ended.FAULT, no_answers(self._unanswered, request.answer))
            return
        self._unanswered = 0
        if request.withheld:
            self._attempt.withheld += 1
            return
        tag, stamp, now = self._bench.tag, request.stamp_ns / 1e9, self._clock.now_ns / 1e9
        self._chunks, (inference, ros) = self._chunks + 1, request.answer
        names = self._bench.contract.joint_names
        chunk = Chunk(self._chunks, EPISODE, stamp, tag.dt, tag.first_offset, len(ros), names, ros.ravel())
        self._continuity.delivered(self._chunks, stamp, inference.actions, now - stamp)
        refused = self._controller.accept(chunk, now, now)
        self._hear()    # before the next inference begins, as a controller states each change
        if not refused:
            self._attempt.latencies.append(now - stamp)
