# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One program moves an arm: whoever else could, by topic or by action, is seen whichever way setpoints take."""

from types import SimpleNamespace

import pytest

from ros2_control_driver.rivals import rival
from ros2_control_driver.topic_sink import TopicSink
from ros2_control_driver.wire import TOPIC, Plan

PLAN = Plan(("a", "b"), "/joint_states", (("arm_jtc", (0,)), ("hand_jtc", (1,))), TOPIC, 0.1, 0.3, 1.0, 1.0)
OURS = "ros2_control_bridge"


class Graph:
    """A node that sees who publishes and who listens, by topic."""

    def __init__(self, publishers=None, listeners=None):
        self._publishers, self._listeners = publishers or {}, listeners or {}

    def get_name(self):
        return OURS

    def get_publishers_info_by_topic(self, topic):
        return [SimpleNamespace(node_name=name) for name in self._publishers.get(topic, ())]

    def get_subscriptions_info_by_topic(self, topic):
        return [SimpleNamespace(node_name=name) for name in self._listeners.get(topic, ())]


def test_a_program_that_could_move_the_arm_by_the_action_is_seen_where_setpoints_go_by_topic():
    moveit = Graph(listeners={"hand_jtc/follow_joint_trajectory/_action/feedback": ["move_group"]})
    text = TopicSink(moveit, PLAN).rival()
    assert text.startswith("move_group gives goals to hand_jtc by its action, or listens to it; end it")


@pytest.mark.parametrize(("publishers", "clients"), [(1, 0), (0, 1)])
def test_what_this_program_itself_has_on_either_way_is_no_rival_and_what_another_has_is(publishers, clients):
    topic, feedback = "arm_jtc/joint_trajectory", "arm_jtc/follow_joint_trajectory/_action/feedback"
    alone = Graph({topic: [OURS] * publishers}, {feedback: [OURS] * clients})
    assert rival(alone, PLAN, publishers, clients) == ""
    second = Graph({topic: [OURS] * (publishers + 1)}, {feedback: [OURS] * clients})
    assert rival(second, PLAN, publishers, clients).startswith(f"another {OURS} also publishes on {topic}; end it")
    other = Graph({topic: [OURS] * publishers}, {feedback: [OURS] * clients + ["moveit"]})
    text = "moveit gives goals to arm_jtc by its action, or listens to it; end it"
    assert rival(other, PLAN, publishers, clients).startswith(text)
