# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 set`, beside a node that stands for a double."""

import threading

import pytest
import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy.executors import SingleThreadedExecutor

from molmoact2_bringup import operate_command
from molmoact2_bringup.operate_command import OK, REFUSED, Nobody
from molmoact2_bringup.set_command import parsed, set_parameter

DOMAIN = 124


class Double:
    """A node that takes two faults, each by its word."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("double", context=self.context)
        self.node.declare_parameter("fault", "ok")
        self.node.add_on_set_parameters_callback(self._on_parameters)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _on_parameters(self, parameters):
        known = all(p.value in ("ok", "cable 4 out") for p in parameters if p.name == "fault")
        return SetParametersResult(successful=known, reason="" if known else "there is no such fault")

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def double():
    double = Double()
    yield double
    double.close()


@pytest.fixture
def node(monkeypatch):
    monkeypatch.setattr(operate_command, "SETTLED", 0.2)
    monkeypatch.setattr(operate_command, "QUIET", 0.2)
    rclpy.init(domain_id=DOMAIN)
    node = rclpy.create_node("operator")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_a_double_is_given_a_fault_and_one_that_it_does_not_know_is_refused_with_its_reason(node, double, capsys):
    assert set_parameter(node, "double", "fault", "cable 4 out") == OK
    assert double.node.get_parameter("fault").value == "cable 4 out"
    assert set_parameter(node, "double", "fault", "cable 9 out") == REFUSED
    assert set_parameter(node, "double", "fautl", "ok") == REFUSED
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["double.fault: cable 4 out", "double.fault: refused: there is no such fault"]


def test_of_a_name_that_nobody_has_or_two_have_nothing_is_set(node, double, monkeypatch):
    monkeypatch.setattr(operate_command, "FOUND_WITHIN", 0.5)
    with pytest.raises(Nobody, match="no process is called left_double.*nothing was set; there are: double"):
        set_parameter(node, "left_double", "fault", "ok")
    twin = rclpy.create_node("double", context=double.context)
    with pytest.raises(Nobody, match="2 processes are called double"):
        set_parameter(node, "double", "fault", "cable 4 out")
    twin.destroy_node()
    assert double.node.get_parameter("fault").value == "ok"


def test_a_value_is_written_as_in_a_system_file():
    assert parsed("double.fault=cable 4 out") == ("double", "fault", "cable 4 out")
    assert parsed("/cameras.camera_fault.front=black") == ("cameras", "camera_fault.front", "black")
    assert parsed("world.seed=7")[2] == 7 and parsed("policy.depth=off")[2] == "off"
    for bad in ("double", "double=ok", "double.fault", "double.fault={a: 1}", "double.fault="):
        with pytest.raises(ValueError, match="double"):
            parsed(bad)
