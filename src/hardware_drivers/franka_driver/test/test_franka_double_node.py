# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node `double` of a Franka: faults by its parameter, and the driver finds it without being told where it is."""

import pytest
import rclpy
from rclpy.parameter import Parameter

from arm_controller.driver import DriverError
from franka_driver.double.node import FrankaDouble
from franka_driver.driver import create
from molmoact2_contract import load_system

DOMAIN = 75


@pytest.fixture(scope="module")
def node():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    given = {"contract": str(load_system("franka_droid").contract.path), "mirror": False}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ROS_DOMAIN_ID", str(DOMAIN))
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = FrankaDouble(context=context, parameter_overrides=overrides)
        yield node
    node.close()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_faults_are_a_parameter_and_an_unknown_one_is_refused(node):
    assert node.set_parameters([Parameter("fault", value="user_stop")])[0].successful
    assert node.set_parameters([Parameter("fault", value="release")])[0].successful
    refused = node.set_parameters([Parameter("fault", value="reflex sneeze")])[0]
    assert not refused.successful and "joint_reflex" in refused.reason


def test_ok_ends_every_fault_but_a_reflex_which_waits_for_its_recovery(double, make_driver):
    for line in ("user_stop", "hand unhomed", "ok"):
        double.say(line)
    driver = make_driver(double.host)
    driver.connect()
    driver.read()
    driver.close()
    for line in ("reflex joint_reflex", "drop on", "ok"):
        double.say(line)
    driver = make_driver(double.host)
    driver.connect()
    with pytest.raises(DriverError, match="joint_reflex"):
        driver.read()


def test_the_driver_finds_the_double_of_its_domain(node, contract):
    driver = create(contract, contract.arm("arm"), {"host": "double", "realtime": "ignore"})
    driver.connect()
    positions = driver.read().positions
    driver.close()
    assert positions[:7] == pytest.approx(contract.values("home")[:7], abs=0.05)
    assert node._positions(node._program.ask()) == pytest.approx(positions, abs=0.05)


def test_the_system_of_the_double_has_the_contract_and_the_driver_of_the_real_one():
    real, double = load_system("franka_droid"), load_system("franka_droid_double")
    assert not real.simulation and double.simulation and double.contract.path == real.contract.path
    controller = double.process("arm_controller").parameters
    assert controller["driver"] == "franka" and controller["driver_options"] == ["host=double", "realtime=ignore"]
