# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What goals of the action are made of, and what becomes of each answer, without ROS on the way and without the package
control_msgs: its action is stood for by one of the same names."""

import importlib
import sys
import types
from types import SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus

from ros2_control_driver.wire import ACTION, Goal, Plan

PLAN = Plan(("a", "b", "c"), "/joint_states", (("arm_jtc", (0, 1)), ("hand_jtc", (2,))), ACTION, 0.1, 0.3, 1.0, 1.0)
STEADY, ROS_NS = 50.0, 1_800_000_000_000_000_000


class Later:
    """A future; `comes` gives it its result."""

    def __init__(self):
        self._calls = []

    def add_done_callback(self, call):
        self._calls.append(call)

    def comes(self, value):
        for call in self._calls:
            call(SimpleNamespace(result=lambda: value))


class Client:
    """An action client that remembers goals; each has an answer and a result that a test lets come."""

    def __init__(self, node, kind, name):
        self.name, self.goals, self.answers, self.results = name, [], [], []

    def server_is_ready(self):
        return True

    def send_goal_async(self, goal):
        self.goals.append(goal)
        self.answers.append(Later())
        self.results.append(Later())
        return self.answers[-1]

    def take(self, number):
        """The controller takes a goal."""
        handle = SimpleNamespace(accepted=True, get_result_async=lambda: self.results[number])
        self.answers[number].comes(handle)

    def end(self, number, status, code, text=""):
        result = SimpleNamespace(error_code=code, error_string=text)
        self.results[number].comes(SimpleNamespace(status=status, result=result))


class Clock:
    def __init__(self):
        self.steady, self.ros_ns = STEADY, ROS_NS

    def monotonic(self):
        return self.steady

    def time_ns(self):
        return self.ros_ns


class Action:
    """FollowJointTrajectory, as far as it is used."""

    class Goal:
        def __init__(self, trajectory):
            self.trajectory = trajectory

    class Result:
        SUCCESSFUL, INVALID_GOAL, INVALID_JOINTS = 0, -1, -2
        OLD_HEADER_TIMESTAMP, PATH_TOLERANCE_VIOLATED, GOAL_TOLERANCE_VIOLATED = -3, -4, -5


@pytest.fixture
def sink(monkeypatch):
    """An open sink with a client for each controller, its clock, and what it was told to fail with."""
    action = types.ModuleType("control_msgs.action")
    action.FollowJointTrajectory = Action
    monkeypatch.setitem(sys.modules, "control_msgs", types.ModuleType("control_msgs"))
    monkeypatch.setitem(sys.modules, "control_msgs.action", action)
    monkeypatch.delitem(sys.modules, "ros2_control_driver.action_sink", raising=False)
    module = importlib.import_module("ros2_control_driver.action_sink")
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "ActionClient", Client)
    woken = []
    node = SimpleNamespace(
        create_guard_condition=lambda call: SimpleNamespace(trigger=lambda: woken.append(call)),
        create_timer=lambda period, call: None,
    )
    failures = []
    sink = module.ActionSink(node, PLAN, failures.append)
    assert sink.open()
    sink.clock, sink.failures, sink.woken = clock, failures, woken
    yield sink
    sys.modules.pop("ros2_control_driver.action_sink", None)


def goes(sink, *positions):
    """Setpoints 10 ms apart up to now, and the goal that is made of them."""
    for number, position in enumerate(positions):
        back = (len(positions) - number) * 10_000_000
        sink.go(Goal((position, -position, 0.5), sink.clock.ros_ns - back))
    sink._flush()


def test_each_controller_gets_its_own_joints_with_times_that_increase_from_the_begin(sink):
    goes(sink, 0.1, 0.2, 0.3)
    arm, hand = (client.goals[0].trajectory for client in sink._clients)
    assert (list(arm.joint_names), list(hand.joint_names)) == (["a", "b"], ["c"])
    assert [list(point.positions) for point in arm.points] == [[0.1, -0.1], [0.2, -0.2], [0.3, -0.3]]
    assert [point.time_from_start.nanosec for point in arm.points] == [300_000_000, 310_000_000, 320_000_000]
    begin = arm.header.stamp.sec * 1_000_000_000 + arm.header.stamp.nanosec
    assert begin == ROS_NS - 30_000_000


def test_nothing_is_sent_while_nothing_new_is_commanded(sink):
    goes(sink, 0.1)
    sink._flush()
    assert [len(client.goals) for client in sink._clients] == [1, 1]


def test_a_stop_wakes_the_bridge_and_bears_no_time(sink):
    goes(sink, 0.1)
    assert not sink.woken
    sink.go(Goal((0.7, 0.7, 0.7), 0))
    sink.woken[0]()
    trajectory = sink._clients[0].goals[-1].trajectory
    assert (trajectory.header.stamp.sec, trajectory.header.stamp.nanosec) == (0, 0)
    assert [list(point.positions) for point in trajectory.points] == [[0.7, 0.7]]


def test_a_goal_that_is_reached_is_no_trouble(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink._clients[0].end(0, GoalStatus.STATUS_SUCCEEDED, 0)
    assert not sink.failures


def test_a_goal_that_is_refused_names_the_controller(sink):
    goes(sink, 0.1)
    sink._clients[1].answers[0].comes(SimpleNamespace(accepted=False))
    assert "hand_jtc refused a goal" in sink.failures[0] and "not active" in sink.failures[0]


def test_a_goal_that_is_aborted_names_code_and_words(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink._clients[0].end(0, GoalStatus.STATUS_ABORTED, -4, "Aborted due to path tolerance violation")
    assert "arm_jtc aborted a goal: PATH_TOLERANCE_VIOLATED (-4): Aborted due to path tolerance" in sink.failures[0]


def test_a_code_that_nobody_knows_is_shown_as_it_is(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink._clients[0].end(0, GoalStatus.STATUS_ABORTED, -77)
    assert "an unknown error (-77)" in sink.failures[0]


@pytest.mark.parametrize("status", [GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED])
def test_a_goal_that_a_newer_one_of_ours_has_replaced_is_no_trouble(sink, status):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink.clock.ros_ns += 100_000_000
    goes(sink, 0.2)
    sink._clients[0].end(0, status, -1, "Current goal cancelled due to new incoming action.")
    assert not sink.failures


def test_an_older_goal_that_was_aborted_for_its_path_is_trouble_all_the_same(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink.clock.ros_ns += 100_000_000
    goes(sink, 0.2)
    sink._clients[0].end(0, GoalStatus.STATUS_ABORTED, -4)
    assert "PATH_TOLERANCE_VIOLATED" in sink.failures[0]


def test_the_newest_goal_taken_away_is_trouble_for_nobody_here_did_it(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink._clients[0].end(0, GoalStatus.STATUS_CANCELED, -1)
    assert "arm_jtc gave a goal up" in sink.failures[0] and "another program" in sink.failures[0]


def test_a_controller_that_does_not_answer_is_named(sink):
    goes(sink, 0.1)
    sink._clients[0].take(0)
    sink.clock.steady += 0.9
    sink._flush()
    assert not sink.failures
    sink.clock.steady += 0.2
    sink._flush()
    assert "hand_jtc has not answered" in sink.failures[0]
