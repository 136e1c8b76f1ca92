# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Attempts through the whole ROS graph in real time: every process of a system runs, tasks are given as an operator
gives them, and the simulated world's own state says what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger

from molmoact2_contract import System
from molmoact2_contract.qos import CHUNK, SENSOR_SUBSCRIBE, STATUS, TRACE
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ActionChunk, ControllerStatus, ReasoningTrace
from mujoco_driver.bus import default_address
from mujoco_driver.judge import LIMITS
from mujoco_driver.tabletop import RATE, Tabletop

from ..lifecycle import BringUpError
from ..running import RunningSystem, Stopped
from ..up import with_settings
from .attempts import AS_IT_IS, Attempt, Condition
from .delay import Delay, delayed
from .disturbance import NONE, DisturbedCameras, relayed
from .truth import Truth

PATIENCE = 10.0    # [s] for what is expected to happen
SPARE = 5.0        # [s] of a task's time limit beyond the judge's
STATES = ControllerStatus
VERBS = ("disarm", "clear_fault", "arm", "resume")


def configured(system: System, condition: Condition, checkpoint: str, seed: int) -> System:
    """A system as a condition wants it. Errors: ContractError for one that lacks a setting."""
    settings = {
        "arm_controller.joining": condition.joining, "arm_controller.when_late": condition.when_late,
        "policy.depth": condition.depth, "policy.instruction": "''", "world.seed": str(seed),
    }    # fmt: skip
    if condition.cache != "bounded":
        settings["policy.cache_policy"] = condition.cache
    if checkpoint:
        settings["policy.checkpoint"] = checkpoint
    changed = with_settings(system, [f"{name}={value}" for name, value in settings.items()])
    changed = changed if condition.latency == AS_IT_IS else delayed(changed)
    return changed if condition.disturbance == NONE else relayed(changed)


class LiveBench:
    """A system that runs while the context is open; enter it from the main thread. table: of the world's scene.

    Errors: BringUpError where a node does not answer, SystemEnded where a process ends, Stopped after Ctrl-C.
    """

    def __init__(self, system: System, condition: Condition, table: Tabletop, write_line: Callable[[str], None]):
        self._running, self._condition, self._table = RunningSystem(system, write_line), condition, table
        self._system, self._arm = system, next(iter(system.contract.arms))
        self._status, self._camera_ns = ControllerStatus(), 0
        self._truth: Truth | None = None
        self._attempt: Attempt | None = None

    def __enter__(self) -> LiveBench:
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
        if self._condition.latency != AS_IT_IS:
            Delay(node, self._condition.latency)
        main = contract.norm_tag(str(self._system.process("policy").parameters["norm_tag"])).cameras[0]
        disturbed = self._condition.disturbance != NONE
        self._cameras = DisturbedCameras(node, contract, main) if disturbed else None
        node.create_subscription(ControllerStatus, f"{self._arm}/status", self._on_status, STATUS)
        node.create_subscription(ReasoningTrace, "policy/reasoning_trace", self._on_trace, TRACE)
        node.create_subscription(ActionChunk, "policy/action_chunk", self._on_chunk, CHUNK)
        info = next(iter(contract.cameras.values())).info_topic
        node.create_subscription(CameraInfo, info, self._on_camera, SENSOR_SUBSCRIBE)
        self._seed = node.create_client(SetParameters, "world/set_parameters")
        self._verbs = {verb: node.create_client(Trigger, f"{self._arm}/{verb}") for verb in VERBS}
        self._task = ActionClient(node, RunTask, "policy/run_task")
        self._running.bring_up()
        address = str(self._system.process("world").parameters.get("address", "")) or default_address()
        self._truth = Truth(address, self._table)
        self._until(self._task.server_is_ready, "the policy's action run_task does not appear")

    # --- ears, in the thread that spins -----------------------------------------------------------------------------
    def _on_status(self, message: ControllerStatus) -> None:
        self._status = message

    def _on_camera(self, message: CameraInfo) -> None:
        self._camera_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec

    def _on_trace(self, message: ReasoningTrace) -> None:
        attempt = self._attempt
        if attempt is None or not len(message.refreshed):
            return
        self._traces += 1
        if self._traces > 1:    # the first one has nothing to keep
            attempt.refreshed.append(sum(message.refreshed) / len(message.refreshed))
            attempt.steps.append(int(message.decoder_steps))

    def _on_chunk(self, message: ActionChunk) -> None:
        if self._attempt is not None:
            stamp = message.header.stamp
            now = self._running.node.get_clock().now().nanoseconds
            self._attempt.latencies.append((now - stamp.sec * 1_000_000_000 - stamp.nanosec) / 1e9)

    # --- attempts ---------------------------------------------------------------------------------------------------
    def attempt(self, condition: Condition, seed: int, cube: str, instruction: str) -> Attempt:
        """One try in the scene of that seed."""
        truth = self._truth
        assert truth is not None
        self._place(seed, truth)
        if self._cameras is not None:
            self._cameras.begin(condition.disturbance, seed)
        attempt, self._traces = Attempt(seed, cube, instruction), 0
        refused = self._status.refused_chunks
        limit = LIMITS[condition.task] / RATE
        goal = RunTask.Goal(instruction=instruction, time_limit=limit + SPARE, success_test="")
        sent = self._running.spun(lambda: self._task.send_goal_async(goal))
        handle = self._answer(sent, "the policy does not take the task")
        if not handle.accepted:
            raise BringUpError("the policy did not take the task; see its log")
        result = self._running.spun(handle.get_result_async)
        self._attempt = attempt
        truth.begin(condition.task, cube)
        self._until(
            lambda: truth.decided.is_set() or result.done(), "an attempt does not end", limit + SPARE + PATIENCE
        )
        self._attempt = None
        truth.end()
        attempt.success, attempt.reason = truth.success, truth.reason
        if result.done() and not attempt.success:
            attempt.reason = f"the task ended: {result.result().result.message}"
        attempt.seconds, attempt.film = truth.steps / RATE, list(truth.film)
        self._end(handle, result)
        attempt.refused = self._status.refused_chunks - refused
        return attempt

    def _end(self, handle: Any, result: Any) -> None:
        if not result.done():
            self._running.spun(handle.cancel_goal_async)
        answer = self._answer(result, "the policy does not end the task")
        assert answer.status != GoalStatus.STATUS_EXECUTING

    def _place(self, seed: int, truth: Truth) -> None:
        """The scene of a seed with the arm at home, and the arm ready. The arm is disarmed meanwhile: a controller
        commands nothing that is put elsewhere by hand."""
        if self._status.state == STATES.FAULT:
            self._operate("clear_fault")
        if self._status.state != STATES.DISARMED:
            self._operate("disarm")
        self._until(lambda: self._status.state == STATES.DISARMED, "the arm is not disarmed")
        deadline = time.monotonic() + PATIENCE
        while (refusal := self._set_seed(seed)):
            if time.monotonic() > deadline:
                raise BringUpError(f"the world does not begin anew: {refusal}")
            self._running.wait(0.05)
        placed_ns = truth.look()
        self._until(lambda: self._camera_ns > placed_ns, "no camera shows the scene that was placed")
        self._operate("arm")
        self._until(lambda: self._status.state not in (STATES.DISARMED, STATES.FAULT), "the arm is not armed")
        if self._status.waits_for_resume:
            self._operate("resume")

    def _set_seed(self, seed: int) -> str:
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
        self._until(self._seed.service_is_ready, "the world's parameters are not there")
        answer = self._answer(self._seed.call_async(request), "the world does not answer")
        return "" if answer.results[0].successful else answer.results[0].reason

    def _operate(self, verb: str) -> None:
        service, client = f"{self._arm}/{verb}", self._verbs[verb]
        self._until(client.service_is_ready, f"{service} is not there")
        answer = self._answer(client.call_async(Trigger.Request()), f"{service} does not answer")
        if not answer.success:
            raise BringUpError(f"{service}: {answer.message}")

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
