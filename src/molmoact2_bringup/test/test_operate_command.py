# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 operate` and `molmoact2 episode`, beside services that stand for controllers and a policy."""

import threading

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from molmoact2_bringup import operate_command
from molmoact2_bringup.operate_command import OK, REFUSED, Nobody, begin_episode, operate
from molmoact2_msgs.srv import ResetEpisode, SetInstruction

DOMAIN = 109


class Robot:
    """Two arms and a policy that remember what they were asked; one arm refuses."""

    def __init__(self, context):
        self.node = rclpy.create_node("robot", context=context)
        self.asked: list[str] = []
        for arm in ("left", "right"):
            for verb in ("arm", "stop"):
                self.node.create_service(Trigger, f"{arm}/{verb}", self._answers(f"{arm}/{verb}"))
        self.node.create_service(SetInstruction, "policy/set_instruction", self._on_instruction)
        self.node.create_service(ResetEpisode, "policy/reset", self._on_reset)

    def _answers(self, name):
        def answer(_, response):
            self.asked.append(name)
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
    robot, executor = Robot(context), SingleThreadedExecutor(context=context)
    executor.add_node(robot.node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield robot
    executor.shutdown()
    thread.join()
    robot.node.destroy_node()
    rclpy.shutdown(context=context)


def test_every_arm_that_is_there_is_asked_and_one_that_refuses_is_named_with_its_reason(node, robot, capsys):
    assert operate(node, "stop", []) == OK and robot.asked == ["left/stop", "right/stop"]
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

    assert operate_command._with_node(interrupted) == 130


def test_where_nobody_is_there_that_is_said_with_the_domain(node, monkeypatch):
    monkeypatch.setattr(operate_command, "FOUND_WITHIN", 1.0)
    with pytest.raises(Nobody, match="no arm's controller answers in ROS domain"):
        operate(node, "stop", [])
    with pytest.raises(Nobody, match="nobody offers policy/reset"):
        begin_episode(node, "")
