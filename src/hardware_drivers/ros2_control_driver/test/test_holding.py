# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a stop asks of the other system, without one."""

import socket

import pytest

from molmoact2_contract import load_contract
from ros2_control_driver.driver import create
from ros2_control_driver.wire import Measured, receive, send

OPTIONS = {"joints": "a,b,c,d,e", "gripper_joint": "f", "gripper_closed": "0.8", "gripper_open": "0.0"}
HERE = (0.1, -0.2, 0.3, 0.4, 0.5, 0.4)    # the gripper half open, in the other system's units


@pytest.fixture
def driver():
    """A driver, and the bridge's end of its line."""
    contract = load_contract("so101")
    driver = create(contract, contract.arm("arm"), OPTIONS)
    driver._socket, bridge = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send(bridge, Measured(HERE, 1))
    yield driver, bridge
    driver._socket.close()
    bridge.close()


def test_a_stop_holds_the_joints_where_they_are_and_keeps_what_the_gripper_was_told(driver):
    driver, bridge = driver
    driver.write([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert list(driver.held()) == [0.0] * 6
    driver.stop()
    receive(bridge)
    assert receive(bridge).positions == pytest.approx((*HERE[:5], 0.8))


def test_a_gripper_that_was_told_nothing_is_stopped_where_it_is(driver):
    driver, bridge = driver
    assert driver.held() is None and driver.real
    driver.stop()
    assert receive(bridge).positions == pytest.approx(HERE)
