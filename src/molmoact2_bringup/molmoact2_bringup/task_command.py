# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 task`: gives a task to a running system, tells how it goes, and says why it ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from molmoact2_contract.qos import STATUS
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import PolicyStatus

from .controllers import KEEP_APART
from .running import STATES

OK, FAILED, BAD_INPUT, CANCELED = 0, 1, 2, 130
FOUND_WITHIN = 10.0    # [s] for a policy and its action to appear
ANSWER_WITHIN = 5.0    # [s] for a service to answer
SPEECHLESS = 15.0      # [s] without feedback, which comes every second, after which the policy is taken to hang
GONE = 3.0             # [s] without the action, after which the policy is taken to have gone
ENDED = RunTask.Result    # for its constants
WORDS = {
    ENDED.ENDED_SUCCEEDED: "succeeded",
    ENDED.ENDED_TIME_LIMIT: "time limit",
    ENDED.ENDED_CANCELED: "canceled",
    ENDED.ENDED_FAULT: "fault",
    ENDED.ENDED_OPERATOR: "ended by an operator",
    ENDED.ENDED_REPLACED: "replaced",
    ENDED.ENDED_REFUSED: "refused",
}


class BadInput(Exception):
    """Nothing was begun; the text says why and what to do."""


class Left(Exception):
    """Ctrl-C, and nothing is waited for any more."""


class TaskClient:
    """One goal of the action `policy/run_task`, while the context is open. Enter it from the main thread.

    The first SIGINT or SIGTERM asks for a cancel, the second leaves at once.
    """

    def __enter__(self) -> TaskClient:
        self._asked = 0
        self._handlers = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("molmoact2_task")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._policy: PolicyStatus | None = None
        self._node.create_subscription(PolicyStatus, "policy/status", self._on_policy, STATUS)
        self._action = ActionClient(self._node, RunTask, "policy/run_task")
        self._shown: tuple[int, str] | None = None
        self._told = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._action.destroy()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        self._asked += 1

    def _on_policy(self, message: PolicyStatus) -> None:
        self._policy = message

    def _until(self, condition: Callable[[], bool], patience: float, begun: bool = False) -> bool:
        """Spins until `condition` or until `patience` [s] is over; returns whether it came true. Errors: Left after a
        signal, unless something has begun that must not be left so."""
        deadline = time.monotonic() + patience
        while not condition():
            if self._asked and not begun:
                raise Left("left before the task began")
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.1)
        return True

    def find_policy(self) -> None:
        """Errors: BadInput where there is none."""
        if not self._until(lambda: self._policy is not None and self._action.server_is_ready(), FOUND_WITHIN):
            domain = os.environ.get("ROS_DOMAIN_ID", "0")
            raise BadInput(
                f"no policy answers in ROS domain {domain}; start a system (molmoact2 up so101_sim), or set "
                "ROS_DOMAIN_ID to its domain"
            )
        self._must_be_one("policy/status", self._node.count_publishers("policy/status"))

    def _must_be_one(self, name: str, heard: int) -> None:
        """Errors: BadInput where two systems share the name, as far as they have been discovered by now."""
        if heard > 1:
            raise BadInput(f"{heard} nodes have {name} in this ROS domain, and nothing was asked of them: {KEEP_APART}")

    def resume(self) -> None:
        """Resumes the arms of an active policy. Errors: BadInput where one does not let itself be resumed."""
        assert self._policy is not None
        if self._policy.state != PolicyStatus.ACTIVE:
            return    # which refuses the task, and says why
        for arm in self._policy.arms:
            answer = self._call(f"{arm}/resume")
            if not answer.success:
                raise BadInput(f"arm {arm!r} cannot be resumed: {answer.message}")
            print(f"arm {arm!r}: {answer.message}", flush=True)

    def _call(self, service: str) -> Trigger.Response:
        client = self._node.create_client(Trigger, service)
        if not self._until(client.service_is_ready, ANSWER_WITHIN):
            raise BadInput(f"{service} is not there; is the arm's controller running?")
        self._must_be_one(service, self._node.count_services(service))
        future = client.call_async(Trigger.Request())
        if not self._until(future.done, ANSWER_WITHIN):
            raise BadInput(f"{service} does not answer; is the arm's controller running?")
        return future.result()

    def run(self, goal: RunTask.Goal) -> RunTask.Result:
        """Returns the result, also of a task that was canceled meanwhile. Errors: BadInput where the policy does not
        answer, Left after a second signal."""
        sent = self._action.send_goal_async(goal, feedback_callback=self._on_feedback)
        # A signal waits for the goal to be taken: what is on its way cannot be canceled.
        if not self._until(sent.done, ANSWER_WITHIN, begun=True):
            raise BadInput("the policy does not answer; whether the task runs is not known, look at policy/status")
        handle, canceling, seen = sent.result(), False, time.monotonic()
        self._told = seen
        if not handle.accepted:
            raise BadInput("the policy did not take the task; see its log")
        result = handle.get_result_async()
        while not result.done():
            if self._asked and not canceling:
                canceling = True
                print("canceling; Ctrl-C again leaves without waiting", flush=True)
                handle.cancel_goal_async()
            elif self._asked > 1:
                arms = ", ".join(f"{arm}/stop" for arm in self._policy.arms) if self._policy else "<arm>/stop"
                raise Left(f"left without waiting; the task may still run: call {arms} to be sure")
            self._executor.spin_once(timeout_sec=0.1)
            if self._action.server_is_ready():
                seen = time.monotonic()
            elif time.monotonic() - seen > GONE:
                return RunTask.Result(ended=ENDED.ENDED_FAULT, message="the policy has gone; its process ended")
            if time.monotonic() - self._told > SPEECHLESS:
                text = f"the policy has said nothing of the task for {SPEECHLESS:g} s; it hangs, look at policy/status"
                return RunTask.Result(ended=ENDED.ENDED_FAULT, message=text)
        return _sound(result.result())

    def _on_feedback(self, message: Any) -> None:
        """One line when what happens has changed."""
        feedback, self._told = message.feedback, time.monotonic()
        if (feedback.controller_state, feedback.text) == self._shown:
            return
        self._shown = (feedback.controller_state, feedback.text)
        state = STATES.get(feedback.controller_state, f"state {feedback.controller_state}")
        print(f"{feedback.elapsed:6.1f} s  {state:10} {feedback.chunks:4} chunks  {feedback.text}", flush=True)


def _sound(response: Any) -> RunTask.Result:
    """The result; one that contradicts the action's own state is not taken at its word."""
    result: RunTask.Result = response.result
    if (result.ended == ENDED.ENDED_SUCCEEDED) == (response.status == GoalStatus.STATUS_SUCCEEDED):
        return result
    return RunTask.Result(ended=ENDED.ENDED_UNKNOWN, message="the policy's answer contradicts itself; see its log")


def task(instruction: str, time_limit: float, success_test: str, resume: bool) -> int:
    """Runs one task. Returns 0 when it succeeded, or when its time was over and no test was asked for; 1 when it did
    not; 2 where it was refused or nobody is there to run it; 130 when it was canceled."""
    goal = RunTask.Goal(instruction=instruction, time_limit=time_limit, success_test=success_test)
    try:
        with TaskClient() as client:
            client.find_policy()
            if resume:
                client.resume()
            result = client.run(goal)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except Left as left:
        print(left, flush=True)
        return CANCELED
    if result.ended == ENDED.ENDED_REFUSED:
        print(f"error: refused: {result.message}", file=sys.stderr)
        return BAD_INPUT
    print(summary(result), flush=True)
    return exit_code(result)


def summary(result: RunTask.Result) -> str:
    words = WORDS.get(result.ended, f"ended in a way that is not known ({result.ended})")
    code = f" (fault code {result.fault_code})" if result.fault_code else ""
    figures = f"{result.duration:.1f} s, {result.chunks} chunks, episode {result.episode_id or '-'}"
    return f"{words}: {result.message}{code}\n{figures}"


def exit_code(result: RunTask.Result) -> int:
    over = result.ended == ENDED.ENDED_TIME_LIMIT and not result.success_test
    if result.ended == ENDED.ENDED_SUCCEEDED or over:
        return OK
    return CANCELED if result.ended == ENDED.ENDED_CANCELED else FAILED
