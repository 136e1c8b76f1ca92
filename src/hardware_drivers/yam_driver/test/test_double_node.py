# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `double` of a YAM: faults by its parameter, and the driver finds it without being told where it is."""

import json

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from trajectory_msgs.msg import JointTrajectory

from molmoact2_contract import load_system
from mujoco_driver.double_node import TRAIL
from yam_driver.double.command import obey
from yam_driver.double.node import YamDouble
from yam_driver.driver import create

DOMAIN = 74


@pytest.fixture
def node(monkeypatch, tmp_path, contract):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    given = {"contract": str(contract.path), "arm": "left", "mirror": False, "plain": True}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = YamDouble(context=context, parameter_overrides=overrides)
    yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def set_fault(node, line):
    return node.set_parameters([Parameter("fault", value=line)])[0]


def test_faults_are_a_parameter_and_an_unknown_one_is_refused_with_those_there_are(node):
    assert set_fault(node, "fail 4 OVERLOAD").successful
    assert node._program.ask()["motors"][3] == "OVERLOAD"
    refused = set_fault(node, "explode")
    assert not refused.successful and "cable 4 out" in refused.reason


def test_the_driver_finds_the_double_of_its_arm(node, contract):
    driver = create(contract, contract.arm("left"), {"channel": "double"})
    driver.connect()
    positions = driver.read().positions
    driver.close()
    assert positions[3] == pytest.approx(-0.24, abs=1e-2) and positions[6] == pytest.approx(1.0, abs=1e-2)
    assert node._positions(node._program.ask()) == pytest.approx(positions, abs=1e-2)


def test_whoever_subscribes_hears_where_the_arm_was_and_what_its_motors_were_told(node, contract, until):
    listener = rclpy.create_node("listener", context=node.context)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(listener)
    heard = {"seen": [], "told": []}
    for kind, points in heard.items():
        listener.create_subscription(JointTrajectory, f"double/{kind}", lambda m, p=points: p.extend(m.points), TRAIL)
    driver = create(contract, contract.arm("left"), {"channel": "double"})
    driver.connect()
    try:
        goal = driver.read().positions.clip(driver._lower, driver._upper)
        driver.write(goal)
        goal[0] += 0.1
        driver.write(goal)
        until(lambda: executor.spin_once(0.05) or (heard["told"] and heard["told"][-1].positions[0] > 0.09))
        until(lambda: executor.spin_once(0.05) or heard["seen"][-1].positions[0] > 0.05)
    finally:
        driver.close()
        executor.shutdown()
        listener.destroy_node()
    told = np.array([point.positions for point in heard["told"]])
    assert told[-1] == pytest.approx(goal, abs=2e-3)
    times = [point.time_from_start.sec + point.time_from_start.nanosec / 1e9 for point in heard["seen"]]
    assert len(times) > 10 and (np.diff(times) > 0).all()


def test_a_program_that_dies_is_the_nodes_error(node, until):
    assert not node.error
    node._program._process.kill()
    until(lambda: "ended with exit code -9" in node.error)


def test_what_is_mended_is_whole_again_but_motors_in_error_stay_so(double):
    for line in ("fail 2 OVERLOAD", "heat 3 71", "cable 4 out", "busoff on", "drop 0.5", "corrupt 0.5", "adapter out"):
        obey(double, line)
    obey(double, "ok")
    adapter, motors = double.adapter, double.motors
    assert not adapter.bus_off and adapter.drop == adapter.corrupt == 0.0 and adapter.link.exists()
    assert all(motor.plugged and motor.rotor < 60 for motor in motors)
    told = json.loads(obey(double, "ask"))
    assert told["motors"][1] == "OVERLOAD" and np.shape(told["positions"]) == (7,)


@pytest.mark.parametrize(("name", "arms"), [("yam_bimanual", ("left", "right")), ("yam_single", ("arm",))])
def test_a_system_of_doubles_has_the_contract_and_the_driver_of_the_real_one(name, arms):
    real, double = load_system(name), load_system(f"{name}_double")
    assert not real.simulation and double.simulation and double.contract.path == real.contract.path
    controllers = {p.parameters["arm"]: p.parameters for p in double.processes if "driver" in p.parameters}
    assert tuple(controllers) == arms
    assert all(p["driver"] == "yam" and p["driver_options"] == ["channel=double"] for p in controllers.values())
