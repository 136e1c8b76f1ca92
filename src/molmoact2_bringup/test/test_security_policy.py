# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The sample of a security policy in docker/sros2, against what an operator's commands ask for. No graph here."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.task import Future

from molmoact2_bringup import operate_command
from molmoact2_bringup.holding import stop_arm
from molmoact2_bringup.lifecycle import bring_up
from molmoact2_bringup.operate_command import OK, TRIGGER, VERBS, begin_episode, operate

ROOT = Path(__file__).resolve().parents[3]


class Client:
    """Of a service that is there and does what it is asked."""

    def __init__(self, kind):
        self._kind = kind

    def service_is_ready(self):
        return True

    def wait_for_service(self, _):
        return True

    def call_async(self, request):
        response = self._kind.Response()
        if self._kind is GetParameters:
            response.values = [rclpy.parameter.Parameter(n, value=n).get_parameter_value() for n in request.names]
        else:
            response.success = True
        future = Future()
        future.set_result(response)
        return future


class CommandsNode:
    """The node of a command beside one controller and one policy. asked: the services of which it was a client."""

    def __init__(self):
        self.asked = set()

    def create_client(self, kind, name):
        self.asked.add(name.lstrip("/"))
        return Client(kind)

    def destroy_client(self, _):
        pass

    def get_service_names_and_types(self):
        return [(f"/arm/{verb}", [TRIGGER]) for verb in VERBS]

    def count_publishers(self, _):
        return 1

    def count_services(self, _):
        return 1

    def get_publishers_info_by_topic(self, _):
        kind = "molmoact2_msgs/msg/ControllerStatus"
        return [SimpleNamespace(topic_type=kind, node_name="arm_controller", node_namespace="/")]


def permitted(enclave: str) -> set[str]:
    """Services that the sample lets an enclave ask."""
    root = ElementTree.parse(ROOT / "docker/sros2/so101_policy.xml").getroot()
    groups = root.findall(f".//enclave[@path='/{enclave}']//services[@request='ALLOW']")
    return {service.text for group in groups for service in group}


@pytest.fixture
def node(monkeypatch):
    monkeypatch.setattr(operate_command, "SETTLED", 0.0)
    monkeypatch.setattr(operate_command, "QUIET", 0.0)
    monkeypatch.setattr(rclpy, "spin_once", lambda *_, **__: None)
    return CommandsNode()


def test_an_operator_may_ask_all_that_the_operators_commands_ask_and_nothing_else(node):
    for verb in VERBS:
        assert operate(node, verb, []) == operate(node, verb, ["arm"]) == OK
    for instruction in ("", "pick up the cube"):
        assert begin_episode(node, instruction) == OK
    bring_up(node, "policy", lambda: None)
    assert stop_arm(node, "arm", lambda call: call()) == ""
    assert node.asked == permitted("operator")
