# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Goals by the action FollowJointTrajectory, for controllers that offer nothing else; they answer, with reasons.

All of it but `go` runs in the executor's thread: an rclpy action client that asks in one thread and hears in another
may hear an answer before it knows the question.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from .rivals import action_of, rival
from .stretch import Stretch, Trajectory
from .wire import Goal, Plan

SHARE = 0.5           # of the lead, after which a goal is renewed
ANSWER_WITHIN = 1.0   # [s] for a controller to take or refuse a goal
CODES = {
    getattr(FollowJointTrajectory.Result, name): name
    for name in ("SUCCESSFUL", "INVALID_GOAL", "INVALID_JOINTS", "OLD_HEADER_TIMESTAMP", "PATH_TOLERANCE_VIOLATED",
                 "GOAL_TOLERANCE_VIOLATED")
}


class ActionSink:
    """How goals reach the controllers of a plan. fail: told, once, why they cannot any more."""

    takes_all = True

    def __init__(self, node: Node, plan: Plan, fail: Callable[[str], None]):
        self._node, self._plan, self._fail = node, plan, fail
        self._clients: list[ActionClient] = []
        self._stretch = Stretch(plan.action_lead)
        self._number = 0
        self._asked: dict[tuple[int, int], float] = {}    # goals without an answer: group, number -> steady time [s]
        self._wake = node.create_guard_condition(self._flush)

    # --- who is there -------------------------------------------------------------------------------------------------
    def missing(self) -> str:
        """Which controller is not there; empty where all are."""
        for controller, places in self._plan.groups:
            if not self._node.count_services(f"{action_of(controller)}/_action/send_goal"):
                names = ", ".join(self._plan.joints[place] for place in places)
                return (
                    f"no controller offers the action {action_of(controller)} (for {names}); start and activate it, or "
                    "name yours with the option controller"
                )
        return ""

    def rival(self) -> str:
        """Who else moves the arm, or could; empty where nobody does."""
        return rival(self._node, self._plan, 0, len(self._clients[:1]))

    def open(self) -> bool:
        """Whether all controllers take goals; the first call begins to speak to them."""
        if not self._clients:
            actions = [action_of(controller) for controller, _ in self._plan.groups]
            self._clients = [ActionClient(self._node, FollowJointTrajectory, action) for action in actions]
            self._node.create_timer(SHARE * self._plan.action_lead, self._flush)
        return all(client.server_is_ready() for client in self._clients)

    # --- goals --------------------------------------------------------------------------------------------------------
    def go(self, goal: Goal) -> None:
        """Goes with the next goal; a stop at once. From any thread."""
        if self._stretch.add(goal):
            self._wake.trigger()

    def _flush(self) -> None:
        self._see_answers()
        trajectory = self._stretch.take(time.time_ns())
        if trajectory is None or not self._clients:
            return
        self._number += 1
        for group, client in enumerate(self._clients):
            self._asked[group, self._number] = time.monotonic()
            future = client.send_goal_async(self._goal(group, trajectory))
            future.add_done_callback(partial(self._answered, group, self._number))

    def _goal(self, group: int, trajectory: Trajectory) -> Any:
        _, places = self._plan.groups[group]
        message = JointTrajectory(joint_names=[self._plan.joints[place] for place in places])
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(trajectory.stamp_ns, 1_000_000_000)
        for from_begin, positions in trajectory.points:
            point = JointTrajectoryPoint(positions=[positions[place] for place in places])
            point.time_from_start.sec, point.time_from_start.nanosec = divmod(from_begin, 1_000_000_000)
            message.points.append(point)
        return FollowJointTrajectory.Goal(trajectory=message)

    def _see_answers(self) -> None:
        for (group, _), since in self._asked.items():
            if time.monotonic() - since > ANSWER_WITHIN:
                name = self._plan.groups[group][0]
                self._fail(f"{name} has not answered to a goal for {ANSWER_WITHIN:g} s; see whether it still runs")
                return

    def _answered(self, group: int, number: int, future: Future) -> None:
        self._asked.pop((group, number), None)
        handle, name = future.result(), self._plan.groups[group][0]
        if handle is None or not handle.accepted:
            # The action carries no reason for this; the controller's own log has it.
            self._fail(
                f"{name} refused a goal and, as the action is made, gave no reason (its log has it): it is not active, "
                "has other joints, or the goal came too late: see the clocks, or give more lead"
            )
            return
        handle.get_result_async().add_done_callback(partial(self._ended, group, number))

    def _ended(self, group: int, number: int, future: Future) -> None:
        answer, name = future.result(), self._plan.groups[group][0]
        if answer is None:
            return
        code, text = int(answer.result.error_code), str(answer.result.error_string)
        if answer.status == GoalStatus.STATUS_SUCCEEDED and code == FollowJointTrajectory.Result.SUCCESSFUL:
            return
        # A goal that a newer one has replaced is canceled, or aborted as one that does not hold any more.
        if number < self._number and (
            answer.status == GoalStatus.STATUS_CANCELED or code == FollowJointTrajectory.Result.INVALID_GOAL
        ):
            return
        words = f"{CODES.get(code, 'an unknown error')} ({code}){f': {text}' if text else ''}"
        if answer.status == GoalStatus.STATUS_CANCELED:
            self._fail(f"{name} gave a goal up that nobody here took back: {words}; is another program moving the arm?")
        else:
            self._fail(f"{name} aborted a goal: {words}; see what held the arm up, then clear_fault")
