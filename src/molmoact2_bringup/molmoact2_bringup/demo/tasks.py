# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Tasks that a demo gives one after the other, as an operator gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import Trigger

from molmoact2_contract import System
from molmoact2_msgs.action import RunTask
from molmoact2_msgs.msg import ControllerStatus

from ..running import RunningSystem
from ..task_command import WORDS

PATIENCE = 10.0    # [s] for the policy and the controllers to answer
REST = 1.0         # [s] between two tasks, so that a person sees where one ends


@dataclass(frozen=True)
class Task:
    """instruction: in words; test: of success, published on success_tests, or empty; limit: [s]."""

    instruction: str
    test: str
    limit: float


TABLETOP = (    # with the rests between them, for half a minute
    Task("pick up the red cube", "the red cube is lifted", 8.0),
    Task("put the red cube in the tray", "the red cube is in the tray", 12.0),
    Task("touch the blue cube", "the blue cube is touched", 6.0),
)


def tasks_for(system: System, instructions: Sequence[str], seconds: float) -> Sequence[Task]:
    """What to ask of a system: the instructions with equal shares of the time, or, where there are none, what its scene
    is made for. None for other scenes: there the policy's own instruction holds."""
    if instructions:
        return [Task(words, "", seconds / len(instructions)) for words in instructions]
    scenes = [str(process.parameters.get("scene", "")) for process in system.processes]
    return TABLETOP if any(scene.startswith("so101_tabletop") for scene in scenes) else ()


class Unanswered(RuntimeError):
    """The policy or a controller did not answer; the text says which."""


class Tasks:
    """Gives tasks to a running system and keeps how each ended. Steps are taken by `update`, which never waits."""

    def __init__(self, running: RunningSystem, tasks: Sequence[Task]):
        self.ended: list[str] = []
        self._now: Task | None = None
        self._running = running
        self._node: Node = running.node
        self._statuses: dict[str, ControllerStatus] = running.statuses
        self._action = ActionClient(self._node, RunTask, "policy/run_task")
        self._resume = {
            arm: self._node.create_client(Trigger, f"{arm}/resume") for arm in running.system.contract.arms
        }
        self._steps: Iterator[None] = self._all(tasks) if tasks else iter(())

    def update(self) -> None:
        """Goes on as far as is possible now. Errors: Unanswered."""
        next(self._steps, None)

    def told(self) -> list[str]:
        """How each task ended, or that it had not."""
        running = [f"“{self._now.instruction}”: not ended when the time was over"] if self._now else []
        return self.ended + running

    def _all(self, tasks: Sequence[Task]) -> Iterator[None]:
        yield from _until(self._action.server_is_ready, "the policy's action run_task does not appear")
        for task in tasks:
            for arm, client in self._resume.items():
                if arm in self._statuses and self._statuses[arm].waits_for_resume:
                    yield from self._called(f"{arm}/resume", client)
            yield from self._run(task)
            yield from _while(REST)

    def _called(self, service: str, client: Client) -> Iterator[None]:
        yield from _until(client.service_is_ready, f"{service} is not there")
        future = client.call_async(Trigger.Request())
        yield from _until(future.done, f"{service} does not answer")
        if not future.result().success:
            raise Unanswered(f"{service}: {future.result().message}")

    def _run(self, task: Task) -> Iterator[None]:
        goal = RunTask.Goal(instruction=task.instruction, time_limit=task.limit, success_test=task.test)
        sent = self._running.spun(lambda: self._action.send_goal_async(goal))
        yield from _until(sent.done, "the policy does not take the task")
        handle: Any = sent.result()
        if not handle.accepted:
            raise Unanswered("the policy did not take the task; see its log")
        self._now, result = task, self._running.spun(handle.get_result_async)
        yield from _until(result.done, "the policy does not end the task", task.limit + PATIENCE)
        found: RunTask.Result = result.result().result
        self._now = None
        self.ended.append(f"“{task.instruction}”: {WORDS.get(found.ended, 'unknown')} after {found.duration:.1f} s")


def _until(condition: Any, what: str, patience: float = PATIENCE) -> Iterator[None]:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise Unanswered(f"{what} (waited {patience:g} s)")
        yield None


def _while(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield None
