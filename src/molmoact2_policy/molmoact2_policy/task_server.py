# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The action `policy/run_task`: goals, feedback and results around TaskRun. All of it runs in the executor's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from molmoact2_contract.qos import SENSOR_SUBSCRIBE
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus, SuccessTest

from .runner import Runner
from .tasks import ArmStatus, Cause, Ended, Ending, Goal, State, TaskRun

TICK = 0.1              # [s]
TELL = 1.0              # [s] between two feedbacks that say the same
SHOWN = 100             # characters of an instruction in a line of the log
TEST_WITHIN = 2.0       # [s] for a test of success to be heard before a task is refused for want of it


@dataclass
class Task:
    """A goal on its way. done: gets the Result. runner, run: once it has begun."""

    handle: ServerGoalHandle
    goal: Goal
    came: float    # steady [s]
    done: Future = field(default_factory=Future)
    runner: Runner | None = None
    run: TaskRun | None = None
    chunks_before: int = 0
    instruction: str = ""
    told: float = 0.0
    told_text: str = ""

    def __str__(self) -> str:
        words = self.goal.instruction
        return repr(words if len(words) <= SHOWN else f"{words[:SHOWN]} ...")


class TaskServer:
    """Serves `policy/run_task`. active: the runner while the node is active, None otherwise; announce: states the
    policy's episode, which controllers must know before its first chunk."""

    def __init__(self, node: Node, active: Callable[[], Runner | None], announce: Callable[[], None]):
        self._node, self._active, self._announce = node, active, announce
        self._task: Task | None = None       # the one that runs
        self._waiting: Task | None = None    # the one that waits for its test of success to be heard
        self._tests: dict[str, float] = {}   # when each was heard, steady [s]
        self._statuses: dict[str, ControllerStatus] = {}
        self._stop_clients: dict[str, Client] = {}
        self._to_stop: set[str] = set()      # arms that must not follow what an ended task has sent
        self._over = 0                       # the last chunk of that task
        self.last: tuple[str, Ending] | None = None    # the last task that has ended: its episode, and how
        self._server = ActionServer(
            node, RunTask, "policy/run_task", self._execute, cancel_callback=self._on_cancel
        )
        # Best effort hears every publisher; tests are stated at a steady rate, so a lost one does not matter.
        node.create_subscription(SuccessTest, "success_tests", self._on_test, SENSOR_SUBSCRIBE)
        node.create_timer(TICK, self._tick)

    # --- from the node ------------------------------------------------------------------------------------------------
    def hear_controller(self, arm: str, status: ControllerStatus) -> None:
        self._statuses[arm] = status
        if arm not in self._stop_clients:
            self._stop_clients[arm] = self._node.create_client(Trigger, f"{arm}/stop")
        if self._task is not None and self._task.run is not None:
            self._task.run.hear_controller(arm, _arm_status(status))
            self._settle()
        else:
            self._stop(arm)

    def policy_ended(self, message: str, failed: bool) -> None:
        """The policy leaves its active state, by an operator's will or because it failed: so does the task."""
        if self._waiting is not None:
            self._refuse(self._waiting, message)
        if self._task is not None and self._task.run is not None:
            self._task.run.end(Ended.FAULT if failed else Ended.OPERATOR, message)
            self._settle()
        self._statuses, self._to_stop = {}, set()

    def close(self) -> None:
        self._server.destroy()

    # --- goals --------------------------------------------------------------------------------------------------------
    async def _execute(self, handle: ServerGoalHandle) -> RunTask.Result:
        request = handle.request
        goal = Goal(request.instruction, request.time_limit, request.success_test)
        task = Task(handle, goal, time.monotonic())
        self._take(task)
        result = await task.done
        if result.ended == Ended.SUCCEEDED:
            handle.succeed()
        elif result.ended == Ended.CANCELED:
            handle.canceled()
        else:
            handle.abort()
        return result

    def _take(self, task: Task) -> None:
        """Begins a task, refuses it, or lets it wait for its test of success."""
        refusal = self._refusal(task.goal)
        if refusal:
            self._refuse(task, refusal)
            return
        if self._waiting is not None:
            self._finish(self._waiting, Ending(Ended.REPLACED, "another task took its place before it began"))
        self._waiting = task
        self._look_at_waiting()

    def _refusal(self, goal: Goal) -> str:
        """Why a task cannot begin now, in words with the mend; empty where it can."""
        runner = self._active()
        if runner is None:
            return "the policy is not active: policy/status says why; activate it (ros2 lifecycle set /policy activate)"
        try:
            runner.check_instruction(goal.instruction)
        except ValueError as error:
            return str(error)
        return goal.refusal

    def _refuse(self, task: Task, why: str) -> None:
        self._finish(task, Ending(Ended.REFUSED, why))

    def _look_at_waiting(self) -> None:
        """Begins the task that waits, once its test of success is heard, or refuses it."""
        task = self._waiting
        if task is None:
            return
        test, now = task.goal.success_test, time.monotonic()
        if not test or now - self._tests.get(test, float("-inf")) <= TEST_WITHIN:
            self._begin(task)
        elif now - task.came > TEST_WITHIN:
            heard = ", ".join(sorted(self._tests)) or "none"
            self._refuse(
                task,
                f"nobody publishes the success test {test!r} on success_tests (heard: {heard}); start what tests it, "
                "or leave success_test empty",
            )

    def _begin(self, task: Task) -> None:
        runner = self._active()
        assert runner is not None    # a task that waits is refused when the policy leaves its active state
        if self._task is not None and self._task.run is not None:
            self._task.run.end(Ended.REPLACED, f"replaced by the task {task}")
            self._settle()
        runner.set_instruction(task.goal.instruction)
        runner.reset()
        self._announce()
        now, ros_ns = time.monotonic(), self._node.get_clock().now().nanoseconds
        task.runner, task.instruction, task.chunks_before = runner, runner.instruction, runner.statistics.chunks
        task.run = TaskRun(task.goal, runner.arms, now, ros_ns, self._over)
        for arm, status in self._statuses.items():
            task.run.hear_controller(arm, _arm_status(status))
        self._task, self._waiting, self._to_stop = task, None, set()
        self._node.get_logger().info(f"task begins: {task}")

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        ending = Ending(Ended.CANCELED, "canceled by the client")
        task = next((t for t in (self._waiting, self._task) if t is not None and t.handle == handle), None)
        if task is None or task.done.done():
            return CancelResponse.REJECT
        if task.run is not None:
            task.run.end(ending.ended, ending.message)
            self._settle()
        else:
            self._finish(task, ending)
        return CancelResponse.ACCEPT

    # --- while a task runs --------------------------------------------------------------------------------------------
    def _on_test(self, message: SuccessTest) -> None:
        now = time.monotonic()
        self._tests = {name: at for name, at in self._tests.items() if now - at <= TEST_WITHIN}
        self._tests[message.name] = now
        self._look_at_waiting()
        if self._task is not None and self._task.run is not None:
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            ros_ns = self._node.get_clock().now().nanoseconds
            self._task.run.hear_test(message.name, message.holds, stamp_ns, ros_ns, now)
            self._settle()

    def _tick(self) -> None:
        self._look_at_waiting()
        task = self._task
        if task is None or task.run is None:
            return
        task.run.check(time.monotonic())
        self._settle()
        if self._task is task:
            self._tell(task)

    def _tell(self, task: Task) -> None:
        assert task.run is not None and task.runner is not None
        now = time.monotonic()
        text = task.run.text(task.runner.withheld, now)
        if task.runner.instruction != task.instruction:
            task.instruction = task.runner.instruction
            text = f"the instruction is now {task.instruction!r}"
        if text == task.told_text and now - task.told < TELL:
            return
        task.told, task.told_text = now, text
        task.handle.publish_feedback(
            RunTask.Feedback(
                elapsed=task.run.elapsed(now), chunks=task.runner.statistics.chunks - task.chunks_before,
                controller_state=int(task.run.worst), text=text,
            )
        )

    # --- how a task ends ----------------------------------------------------------------------------------------------
    def _settle(self) -> None:
        """Does what follows from the end of the task, where it has ended."""
        task = self._task
        if task is None or task.run is None or task.run.ending is None:
            return
        assert task.runner is not None
        self._task, ending = None, task.run.ending
        episode, now = task.runner.episode_id, time.monotonic()
        self.last = episode, ending
        if ending.ended != Ended.REPLACED:
            task.runner.hold_back(f"the task ended: {ending.message}; give a new one, or call policy/set_instruction")
            self._over, self._to_stop = max(self._over, task.runner.last_chunk_id), set(task.runner.arms)
            for arm in self._statuses:
                self._stop(arm)
        chunks = task.runner.statistics.chunks - task.chunks_before
        self._announce()
        self._finish(task, ending, duration=task.run.elapsed(now), chunks=chunks, episode_id=episode)

    def _finish(self, task: Task, ending: Ending, **figures: float | int | str) -> None:
        if task is self._waiting:
            self._waiting = None
        self._node.get_logger().info(
            f"task {task} ended ({ending.ended.name.lower()}): {ending.message}"
        )
        task.done.set_result(
            RunTask.Result(
                ended=int(ending.ended), message=ending.message, fault_code=ending.fault_code,
                success_test=task.goal.success_test, **figures,
            )
        )

    def _stop(self, arm: str) -> None:
        """Stops an arm that follows a chunk of a task that has ended."""
        status = self._statuses[arm]
        follows = status.state == ControllerStatus.FOLLOWING and 0 < status.chunk_id <= self._over
        if not follows or arm not in self._to_stop:
            return
        client = self._stop_clients[arm]
        if not client.service_is_ready():
            self._node.get_logger().warning(
                f"{arm}/stop is not there yet; the arm runs its chunk out", throttle_duration_sec=1.0
            )
            return
        self._to_stop.discard(arm)
        client.call_async(Trigger.Request()).add_done_callback(partial(self._on_stopped, arm))

    def _on_stopped(self, arm: str, future: Future) -> None:
        answer = future.result()
        if answer is not None and not answer.success:
            self._node.get_logger().warning(f"{arm}/stop was refused: {answer.message}")


def _arm_status(message: ControllerStatus) -> ArmStatus:
    """A state that nobody knows is a fault."""
    known = message.state in State.__members__.values()
    cause = message.cause if message.cause in Cause.__members__.values() else Cause.ITSELF
    return ArmStatus(
        state=State(message.state) if known else State.FAULT,
        reason=message.reason,
        paused=message.paused,
        guided=message.guided,
        fault_code=message.fault_code,
        fault_text=message.fault_text if known else f"its state {message.state} is unknown",
        chunk_id=message.chunk_id,
        cause=Cause(cause),
        waits=message.waits_for_resume,
        refused=message.refused_chunks,
        refusal=message.last_refusal,
        refusal_text=message.last_refusal_text,
    )
