# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Goals on a controller's topic: each one is a trajectory of one point."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.publisher import Publisher
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from molmoact2_contract.qos import CHUNK

from .rivals import rival, topic_of
from .wire import Goal, Plan


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
        """Who else moves the arm, or could; empty where nobody does."""
        return rival(self._node, self._plan, len(self._publishers[:1]), 0)

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
