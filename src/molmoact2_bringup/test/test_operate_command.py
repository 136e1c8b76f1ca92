# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 operate` and `molmoact2 episode`, beside services that stand for controllers and a policy."""

import threading

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from molmoact2_bringup import operate_command
from molmoact2_bringup.controllers import Controller, SeveralSystems, names_once, one_system
from molmoact2_bringup.operate_command import BAD_INPUT, OK, REFUSED, Nobody, begin_episode, operate
from molmoact2_contract.qos import STATUS
from molmoact2_msgs.msg import ControllerStatus
from molmoact2_msgs.srv import ResetEpisode, SetInstruction

DOMAIN = 109


class Robot:
    """Arms and a policy that remember what they were asked; one arm refuses. As a controller does, each arm has a node
    that publishes its status and has the parameters of its system."""

    def __init__(self, context, executor):
        self.asked: list[str] = []
        self._news = threading.Condition()
        self._context, self._executor, self._nodes = context, executor, []
        for arm in ("left", "right"):
            self.controller(arm, f"{arm}_arm_controller")
        node = self._node("policy")
        node.create_service(SetInstruction, "policy/set_instruction", self._on_instruction)
        node.create_service(ResetEpisode, "policy/reset", self._on_reset)

    def _node(self, name, awake=True):
        node = rclpy.create_node(name, context=self._context)
        self._nodes.append(node)
        if awake:
            self._executor.add_node(node)
        return node

    def controller(self, arm, name, contract="yam_bimanual.yaml", simulation=True, awake=True):
        node = self._node(name, awake)
        node.declare_parameter("contract", contract)
        node.declare_parameter("simulation", simulation)
        node.create_publisher(ControllerStatus, f"{arm}/status", STATUS)
        for verb in ("arm", "stop"):
            node.create_service(Trigger, f"{arm}/{verb}", self._answers(f"{arm}/{verb}"))

    def was_asked(self, *names):
        with self._news:
            return self._news.wait_for(lambda: sorted(self.asked) == sorted(names), 10.0)

    def close(self):
        for node in self._nodes:
            node.destroy_node()

    def _answers(self, name):
        def answer(_, response):
            with self._news:
                self.asked.append(name)
                self._news.notify_all()
            response.success = name != "right/arm"
            response.message = "armed" if response.success else "its fault stands"
            return response

        return answer

    def _on_instruction(self, request, response):
        self.asked.append(f"{request.instruction} {request.new_episode}")
        response.success, response.message, response.episode_id = True, "demonstrating it", "abc"
        return response

    def _on_reset(self, _, response):
        self.asked.append("reset")
        response.success, response.message, response.episode_id = True, "a new episode began", "def"
        return response


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch):
    monkeypatch.setattr(operate_command, "SETTLED", 0.2)
    monkeypatch.setattr(operate_command, "QUIET", 0.2)


@pytest.fixture
def node():
    """The command's node; its context is the default one, as in a process of its own."""
    rclpy.init(domain_id=DOMAIN)
    node = rclpy.create_node("operator")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def robot():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    executor = SingleThreadedExecutor(context=context)
    robot = Robot(context, executor)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield robot
    executor.shutdown()
    thread.join()
    robot.close()
    rclpy.shutdown(context=context)


LEFT = Controller("left", "/left_arm_controller", "/a/yam_bimanual.yaml")
RIGHT = Controller("right", "/right_arm_controller", "/a/yam_bimanual.yaml")


def test_the_arms_of_one_robot_are_one_system():
    names_once([LEFT, RIGHT])
    one_system([LEFT, RIGHT])


@pytest.mark.parametrize(
    "stranger",
    [
        Controller("arm", "/arm_controller", "/a/so101.yaml"),
        Controller("arm", "/arm_controller", "/a/yam_bimanual.yaml", simulation=True),
        Controller("two/left", "/two/left_arm_controller", "/a/yam_bimanual.yaml"),
    ],
    ids=["another contract", "simulated beside real", "another namespace"],
)
def test_an_arm_of_another_robot_is_refused_by_name_with_the_mend(stranger):
    with pytest.raises(SeveralSystems, match=f"nothing was asked.*{stranger.arm} .node {stranger.node}.*ROS_DOMAIN_ID"):
        one_system([LEFT, RIGHT, stranger])
    names_once([LEFT, RIGHT, stranger])    # by their names they can be told apart


@pytest.mark.parametrize(
    "twin",
    [Controller("left", "/another"), Controller("arm", "/left_arm_controller")],
    ids=["an arm", "a node"],
)
def test_a_name_that_two_systems_have_means_nobody(twin):
    with pytest.raises(SeveralSystems, match="same names.*nothing was asked.*ROS_DOMAIN_ID"):
        names_once([LEFT, RIGHT, twin])


def test_an_arm_of_which_no_status_is_published_is_refused():
    with pytest.raises(SeveralSystems, match="drone: nothing is known of whose arm it is"):
        names_once([LEFT, RIGHT], ["drone"])


def test_beside_another_system_only_arms_that_are_named_are_armed_and_all_are_stopped(node, robot):
    robot.controller("arm", "arm_controller", "so101.yaml")
    with pytest.raises(SeveralSystems, match="arm .node /arm_controller, contract so101.yaml, simulated"):
        operate(node, "arm", [])
    assert robot.asked == []
    assert operate(node, "arm", ["left"]) == OK and robot.asked == ["left/arm"]
    assert operate(node, "stop", []) == OK and sorted(robot.asked[1:]) == ["arm/stop", "left/stop", "right/stop"]


def test_of_two_arms_of_one_name_none_is_armed_and_both_are_stopped(node, robot, capsys):
    robot.controller("left", "the_other_left")
    with pytest.raises(SeveralSystems, match="/left_arm_controller.*/the_other_left"):
        operate(node, "arm", ["left"])
    assert robot.asked == []
    assert operate(node, "stop", ["left"]) == OK and "2 controllers answer for left" in capsys.readouterr().out
    assert robot.was_asked("left/stop", "left/stop")


def test_a_controller_that_hangs_keeps_no_other_arm_from_being_stopped(node, robot, capsys, monkeypatch):
    monkeypatch.setattr(operate_command, "ANSWER_WITHIN", 0.5)
    robot.controller("elbow", "hangs", awake=False)
    assert operate(node, "stop", []) == BAD_INPUT and sorted(robot.asked) == ["left/stop", "right/stop"]
    assert "elbow/stop does not answer" in capsys.readouterr().err


def test_every_arm_that_is_there_is_asked_and_one_that_refuses_is_named_with_its_reason(node, robot, capsys):
    assert operate(node, "stop", []) == OK and sorted(robot.asked) == ["left/stop", "right/stop"]
    assert operate(node, "arm", []) == REFUSED
    assert capsys.readouterr().out.splitlines()[-2:] == ["left: armed", "right: refused: its fault stands"]


def test_only_the_arms_that_are_named_are_asked(node, robot):
    assert operate(node, "arm", ["left"]) == OK and robot.asked == ["left/arm"]


def test_an_episode_begins_with_an_instruction_or_as_before(node, robot, capsys):
    assert begin_episode(node, "stack the cubes") == OK and begin_episode(node, "") == OK
    assert robot.asked == ["stack the cubes True", "reset"]
    assert capsys.readouterr().out.splitlines() == [
        "demonstrating it; episode abc", "a new episode began; episode def"
    ]


def test_ctrl_c_has_an_exit_code_of_its_own():
    def interrupted(_):
        raise KeyboardInterrupt

    assert operate_command.with_node(interrupted) == 130


def test_where_nobody_is_there_that_is_said_with_the_domain(node, monkeypatch):
    monkeypatch.setattr(operate_command, "FOUND_WITHIN", 1.0)
    with pytest.raises(Nobody, match="no arm's controller answers in ROS domain"):
        operate(node, "stop", [])
    with pytest.raises(Nobody, match="nobody offers policy/reset"):
        begin_episode(node, "")
