# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attempts through the whole ROS graph in real time: every process of a system runs, tasks are given as an operator
gives them, and the simulated world's own state says what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from molmoact2_contract import System
from molmoact2_contract.qos import DIAGNOSTICS, SENSOR_SUBSCRIBE, STATUS, TRACE
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus, ReasoningTrace
from mujoco_driver.bus import default_address
from mujoco_driver.judge import LATE
from mujoco_driver.tabletop import RATE, Tabletop

from ..check.alone import must_be_alone, must_be_first
from ..lifecycle import BringUpError
from ..running import RunningSystem, Stopped
from .attempts import Attempt, Condition
from .disturbance import NONE, DisturbedCameras, relayed
from .truth import Truth

PATIENCE = 10.0    # [s] for what is expected to happen
SPARE = 5.0        # [s] of a task's time limit beyond the judge's
STATES = ControllerStatus
VERBS = ("disarm", "clear_fault", "arm", "resume")
DROPPED = "simulated time dropped so far [s]"    # of the world's diagnostics, once a second


class LiveBench:
    """A system that runs while the context is open; enter it from the main thread. system: as the condition wants it
    (simulated.SimulatedScene.under); table: of the world's scene.

    Errors: BringUpError where a node does not answer, SystemEnded where a process ends, Stopped after Ctrl-C.
    """

    def __init__(self, system: System, condition: Condition, table: Tabletop, write_line: Callable[[str], None]):
        system = system if condition.disturbance == NONE else relayed(system)
        self._running, self._condition, self._table = RunningSystem(system, write_line), condition, table
        self._write_line, self._system, self._arm = write_line, system, next(iter(system.contract.arms))
        self._status, self._camera_ns = ControllerStatus(), 0
        self._dropped, self._dropped_heard, self._traces, self._chunk_id = 0.0, 0, 0, 0
        self._truth: Truth | None = None
        self._attempt: Attempt | None = None

    def __enter__(self) -> LiveBench:
        must_be_first(self._system, self._write_line)
        self._running.__enter__()
        try:
            self._begin()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *what: Any) -> None:
        if self._truth is not None:
            self._truth.close()
        self._running.close()

    def _begin(self) -> None:
        node, contract = self._running.node, self._system.contract
        main = contract.norm_tag(str(self._system.process("policy").parameters["norm_tag"])).cameras[0]
        disturbed = self._condition.disturbance != NONE
        self._cameras = DisturbedCameras(node, contract, main) if disturbed else None
        node.create_subscription(ControllerStatus, f"{self._arm}/status", self._on_status, STATUS)
        node.create_subscription(ReasoningTrace, "policy/reasoning_trace", self._on_trace, TRACE)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DIAGNOSTICS)
        info = next(iter(contract.cameras.values())).info_topic
        node.create_subscription(CameraInfo, info, self._on_camera, SENSOR_SUBSCRIBE)
        self._seed = node.create_client(SetParameters, "world/set_parameters")
        self._verbs = {verb: node.create_client(Trigger, f"{self._arm}/{verb}") for verb in VERBS}
        self._task = ActionClient(node, RunTask, "policy/run_task")
        self._must_be_alone()
        self._running.bring_up()
        address = str(self._system.process("world").parameters.get("address", "")) or default_address()
        self._truth = Truth(address, self._table)
        self._until(self._task.server_is_ready, "the policy's action run_task does not appear")

    # --- ears, in the thread that spins -----------------------------------------------------------------------------
    def _on_status(self, message: ControllerStatus) -> None:
        self._status, before = message, self._chunk_id
        self._chunk_id = message.chunk_id
        if self._attempt is not None and message.chunk_id not in (0, before):    # it has accepted a chunk
            self._attempt.latencies.append(message.acceptance_latency)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            for value in status.values:
                if value.key == DROPPED:
                    self._dropped, self._dropped_heard = float(value.value), self._dropped_heard + 1

    def _on_camera(self, message: CameraInfo) -> None:
        self._camera_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec

    def _on_trace(self, message: ReasoningTrace) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        self._traces += 1
        attempt.withheld += bool(message.withheld)
        attempt.inferences.extend(timing.seconds for timing in message.timings if timing.stage == "total")
        if len(message.refreshed):
            attempt.steps.append(int(message.decoder_steps))
            if self._traces > 1:    # the first one has nothing to keep
                attempt.refreshed.append(sum(message.refreshed) / len(message.refreshed))

    # --- attempts ---------------------------------------------------------------------------------------------------
    def attempt(self, condition: Condition, seed: int, cube: str, instruction: str) -> Attempt:
        """One try in the scene of that seed. A policy that does not take the task, e.g. because it failed before, is
        activated anew, once: what it refuses is no attempt."""
        attempt, refusal = self._attempted(condition, seed, cube, instruction)
        if refusal:
            self._must_be_alone()
            self._running.activate()
            attempt, refusal = self._attempted(condition, seed, cube, instruction)
        if refusal:
            raise BringUpError(f"the policy refuses the task {instruction!r}, activated anew as well: {refusal}")
        return attempt

    def _attempted(self, condition: Condition, seed: int, cube: str, instruction: str) -> tuple[Attempt, str]:
        """What came of it, and in words why the policy did not begin it, else an empty text."""
        truth = self._truth
        assert truth is not None
        self._place(seed, truth)
        if self._cameras is not None:
            self._cameras.begin(condition.disturbance, seed)
        attempt, self._traces, self._chunk_id = Attempt(seed, cube, instruction), 0, self._status.chunk_id
        refused, dropped = self._status.refused_chunks, self._dropped
        limit = condition.limit
        goal = RunTask.Goal(instruction=instruction, time_limit=limit + SPARE, success_test="")
        self._must_be_alone()
        sent = self._running.spun(lambda: self._task.send_goal_async(goal))
        handle = self._answer(sent, "the policy does not take the task")
        if not handle.accepted:
            raise BringUpError("the policy did not take the task; see its log")
        result = self._running.spun(handle.get_result_async)
        self._attempt = attempt
        truth.begin(condition.task, cube, condition.patience)
        try:
            self._until(
                lambda: truth.decided.is_set() or result.done(), "an attempt does not end", limit + SPARE + PATIENCE
            )
        finally:
            self._attempt = None
            truth.end()
        if truth.error:
            raise BringUpError(f"the simulated world is gone: {truth.error}")
        attempt.success, attempt.reason = truth.success, truth.reason
        if result.done() and not attempt.success:
            ended = result.result().result
            if ended.ended == RunTask.Result.ENDED_REFUSED:
                return attempt, ended.message
            attempt.reason = f"the task ended: {ended.message}"
        attempt.seconds, attempt.film = truth.steps / RATE, list(truth.film)
        self._end(handle, result)
        attempt.refused = self._status.refused_chunks - refused
        self._judge_judgement(attempt, truth, dropped)
        return attempt, ""

    def _judge_judgement(self, attempt: Attempt, truth: Truth, dropped: float) -> None:
        """How good it is. dropped: what the world had left out by its last word before [s]."""
        heard = self._dropped_heard
        self._until(lambda: self._dropped_heard > heard, "the simulated world says nothing of itself on /diagnostics")
        attempt.gap, attempt.dropped = truth.longest_gap / RATE, self._dropped - dropped
        attempt.doubtful = truth.longest_gap > LATE or attempt.dropped > 0

    def _end(self, handle: Any, result: Any) -> None:
        if not result.done():
            self._running.spun(handle.cancel_goal_async)
        answer = self._answer(result, "the policy does not end the task")
        assert answer.status != GoalStatus.STATUS_EXECUTING

    def _place(self, seed: int, truth: Truth) -> None:
        """The scene of a seed with the arm at home, and the arm ready. The arm is disarmed meanwhile: a controller
        commands nothing that is put elsewhere by hand."""
        self._must_be_alone()
        if self._status.state == STATES.FAULT:
            self._operate("clear_fault")
            self._until(lambda: self._status.state != STATES.FAULT, "the controller's fault is not cleared")
        if self._status.state != STATES.DISARMED:
            self._operate("disarm")
        self._until(lambda: self._status.state == STATES.DISARMED, "the arm is not disarmed")
        self._insist(lambda: self._set_seed(seed), "the world does not begin anew")
        placed_ns = truth.look()
        self._until(lambda: self._camera_ns > placed_ns, "no camera shows the scene that was placed")
        self._operate("arm")
        self._until(lambda: self._status.state not in (STATES.DISARMED, STATES.FAULT), "the arm is not armed")
        if self._status.waits_for_resume:
            self._operate("resume")

    def _must_be_alone(self) -> None:
        must_be_alone(self._running, [self._arm])

    def _set_seed(self, seed: int) -> str:
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
        self._until(self._seed.service_is_ready, "the world's parameters are not there")
        answer = self._answer(self._seed.call_async(request), "the world does not answer")
        return "" if answer.results[0].successful else answer.results[0].reason

    def _operate(self, verb: str) -> None:
        """Asks until it is done: what is refused while the arm comes to rest is granted afterwards."""
        service, client = f"{self._arm}/{verb}", self._verbs[verb]
        self._until(client.service_is_ready, f"{service} is not there")

        def ask() -> str:
            if verb != "disarm":
                self._must_be_alone()
            answer = self._answer(client.call_async(Trigger.Request()), f"{service} does not answer")
            return "" if answer.success else answer.message

        self._insist(ask, service)

    def _insist(self, ask: Callable[[], str], what: str) -> None:
        """ask: returns why it was refused, or an empty text. Errors: BringUpError with what was said last."""
        deadline = time.monotonic() + PATIENCE
        while refusal := ask():
            if time.monotonic() > deadline:
                raise BringUpError(f"{what}: {refusal} (asked for {PATIENCE:g} s)")
            self._running.wait(0.05)

    def _answer(self, future: Any, what: str) -> Any:
        self._until(future.done, what)
        return future.result()

    def _until(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if self._running.stopping.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise BringUpError(f"{what} (waited {patience:g} s); see log.txt")
            self._running.wait(0.01, period=0.01)
