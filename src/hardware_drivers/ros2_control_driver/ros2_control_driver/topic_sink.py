# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Goals on a controller's topic: each one is a trajectory of one point."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from molmoact2_contract.qos import CHUNK

from .wire import Goal, Plan


def topic_of(controller: str) -> str:
    return f"{controller}/joint_trajectory"


def rivals_on(node: Node, controller: str, ours: int) -> list[str]:
    """Who else publishes trajectories to a controller. ours: how many publishers on it are this program's."""
    names = [info.node_name for info in node.get_publishers_info_by_topic(topic_of(controller))]
    if len(names) <= ours:
        return []
    return [name for name in names if name != node.get_name()] or ["another ros2_control_bridge"]


class TopicSink:
    """How goals reach the controllers of a plan."""

    takes_all = False    # of goals that wait the newest counts alone

    def __init__(self, node: Node, plan: Plan):
        self._node, self._plan = node, plan
        self._publishers: list[Publisher] = []

    def missing(self) -> str:
        """Which controller is not there; empty where all are."""
        for controller, places in self._plan.groups:
            if not self._node.count_subscribers(topic_of(controller)):
                names = ", ".join(self._plan.joints[place] for place in places)
                return (
                    f"no controller listens on {topic_of(controller)} (for {names}); start and activate it, or name "
                    "yours with the option controller"
                )
        return ""

    def rival(self) -> str:
        """Who else moves the arm; empty where nobody does."""
        for controller, _ in self._plan.groups:
            others = rivals_on(self._node, controller, len(self._publishers[:1]))
            if others:
                topic = topic_of(controller)
                return f"{', '.join(others)} also publishes on {topic}; end it: one program moves an arm"
        return ""

    def open(self) -> bool:
        """Whether all controllers hear; the first call begins to speak to them."""
        if not self._publishers:
            topics = [topic_of(controller) for controller, _ in self._plan.groups]
            self._publishers = [self._node.create_publisher(JointTrajectory, topic, CHUNK) for topic in topics]
        return all(publisher.get_subscription_count() for publisher in self._publishers)

    def go(self, goal: Goal) -> None:
        """One point, which each controller is to reach `lead` after the goal's stamp; where it comes later than that
        the controller refuses it, and holds. From any thread."""
        for publisher, (_, places) in zip(self._publishers, self._plan.groups, strict=True):
            message = JointTrajectory(joint_names=[self._plan.joints[place] for place in places])
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(goal.stamp_ns, 1_000_000_000)
            point = JointTrajectoryPoint(positions=[goal.positions[place] for place in places])
            point.time_from_start.nanosec = int(self._plan.lead * 1e9)
            message.points = [point]
            publisher.publish(message)
