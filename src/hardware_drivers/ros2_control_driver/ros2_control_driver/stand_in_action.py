# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in's action FollowJointTrajectory: one goal at a time, a new one in the place of the one that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from control_msgs.action import FollowJointTrajectory
from rclpy.action import ActionServer, GoalResponse
from rclpy.action.server import GoalEvent, ServerGoalHandle
from rclpy.task import Future

if TYPE_CHECKING:
    from .stand_in import StandIn

Result = FollowJointTrajectory.Result


class Goals:
    """Goals are refused for what `node` says of their trajectory, as joint_trajectory_controller does, and end as its
    goals end."""

    def __init__(self, node: StandIn, controller: str):
        self._node = node
        self._active: tuple[ServerGoalHandle, Future] | None = None
        self._server = ActionServer(
            node, FollowJointTrajectory, f"{controller}/follow_joint_trajectory", self._execute,
            goal_callback=self._on_goal,
        )

    def _on_goal(self, goal: Any) -> GoalResponse:
        error = self._node.error_of(goal.trajectory)
        if error:
            print(f"refused {error}", flush=True)
        return GoalResponse.REJECT if error else GoalResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> Any:
        self._cancel("Current goal cancelled due to new incoming action.")
        ended: Future = Future()
        self._active = handle, ended
        self._node.follow(handle.request.trajectory)
        return await ended

    def _end(self, code: int, text: str) -> ServerGoalHandle | None:
        """The running goal, which gets its result."""
        if self._active is None:
            return None
        handle, ended = self._active
        self._active = None
        ended.set_result(Result(error_code=code, error_string=text))
        return handle

    def _cancel(self, text: str) -> None:
        handle = self._end(Result.INVALID_GOAL, text)
        if handle is not None:
            # By the rules of actions only its client may ask for this; the real controller does it all the same.
            handle._update_state(GoalEvent.CANCEL_GOAL)
            handle.canceled()

    def give_up(self) -> None:
        """As where another program has sent a goal of its own."""
        self._cancel("Current goal cancelled due to new incoming action.")
        self._node.hold()
        print("ended canceled", flush=True)

    def abort(self, text: str) -> None:
        handle = self._end(Result.PATH_TOLERANCE_VIOLATED, text)
        if handle is not None:
            handle.abort()
            print(f"ended aborted {text}", flush=True)

    def succeed(self) -> None:
        handle = self._end(Result.SUCCESSFUL, "Goal successfully reached!")
        if handle is not None:
            handle.succeed()
            print("ended reached", flush=True)
