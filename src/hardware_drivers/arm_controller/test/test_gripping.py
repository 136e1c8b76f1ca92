# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a gripper holds is not let go by whoever takes the arm over."""

import numpy as np
import pytest

CUBE = 0.4    # how far open it keeps the jaws
CLOSED = 0.1


@pytest.fixture
def holding(rig):
    """An armed arm whose gripper was told to close on a cube."""
    rig.driver.cube = CUBE
    closing = np.tile(rig.home, (30, 1))
    closing[:, -1] = np.linspace(rig.home[-1], CLOSED, 30)
    assert rig.accept(rig.chunk(closing)) == ""
    rig.tick(150)
    assert rig.state == "HOLDING"
    assert (rig.driver.goal[-1], rig.driver.positions[-1]) == pytest.approx((CLOSED, CUBE), abs=0.01)
    return rig


def keeps(rig):
    rig.tick(20)
    return all(abs(sent[-1] - CLOSED) < 0.01 for sent in rig.driver.sent[-20:])


def test_an_arm_that_is_armed_anew_commands_its_gripper_what_it_was_told_and_not_where_the_cube_blocks_it(holding):
    holding.operator.disarm()
    holding.tick(5)
    assert holding.state == "DISARMED"
    holding.operator.arm()
    assert keeps(holding)


def test_after_a_fault_was_cleared_the_gripper_still_holds(holding):
    holding.ros_ns += 1_000_000_000
    holding.tick(5)
    assert holding.state == "FAULT"
    holding.operator.clear_fault()
    holding.operator.arm()
    assert keeps(holding)


def test_a_gripper_of_which_nobody_knows_what_it_was_told_is_commanded_where_it_is(holding, monkeypatch):
    monkeypatch.setattr(holding.driver, "held", lambda: None)
    holding.operator.disarm()
    holding.tick(5)
    holding.operator.arm()
    holding.tick(1)
    assert holding.driver.sent[-1][-1] == pytest.approx(CUBE, abs=0.01)


def test_what_a_device_holds_at_is_taken_from_grippers_alone_and_brought_within_the_limits(holding):
    here = holding.driver.positions.copy()
    command = holding.controller.gate.gripping(here, np.array([9.0, 9.0, 9.0, 9.0, 9.0, -0.2]))
    assert command[:-1] == pytest.approx(here[:-1]) and command[-1] == 0.0
