# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The workspace: no point of the arm goes through the table or out of its box."""

import numpy as np
import pytest

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault, Refused

TIP = "gripper_frame_link"
DOWN = np.array([0, 0.6, 0.6, -0.8, 0, 0])    # from home [rad]; the gripper goes through the table


@pytest.fixture
def at(make_rig):
    """Makes a rig with an armed arm in some pose."""

    def make(pose: np.ndarray):
        rig = make_rig()
        rig.driver.positions, rig.driver.goal = pose.copy(), pose.copy()
        rig.tick(2)
        rig.arm_and_wait()
        assert rig.state == "HOLDING"
        return rig

    return make


def tip_height(rig, positions: np.ndarray) -> np.ndarray:
    return rig.arm.kinematics.points(positions, [TIP])[..., 0, 2]


def reaching(rig, share: float) -> np.ndarray:
    """Waypoints from home on the way down."""
    return rig.home + np.linspace(0.0, share, 30)[:, None] * DOWN


def test_a_chunk_through_the_table_is_refused_and_the_running_one_goes_on(rig):
    assert rig.accept(rig.chunk(rig.sway())) == ""
    deep = reaching(rig, 1.0)
    assert tip_height(rig, deep).min() < -0.03
    assert "outside the workspace" in rig.accept(rig.chunk(deep, number=2, age=0.0))
    assert rig.controller.last.refusal == Refusal.WORKSPACE
    rig.tick(20)
    assert rig.state == "FOLLOWING"
    assert rig.controller.scheduler.chunk_id == 1


def test_a_chunk_that_stays_above_the_table_is_followed(rig):
    near = reaching(rig, 0.5)
    assert 0.0 < tip_height(rig, near).min() < 0.05
    assert rig.accept(rig.chunk(near)) == ""


def test_an_arm_below_the_table_may_only_rise(rig, at):
    low = rig.home + DOWN
    rig = at(low)
    assert tip_height(rig, low) < -0.03
    deeper, higher = (low + np.linspace(0.0, share, 30)[:, None] * DOWN for share in (0.1, -0.7))
    assert "outside the workspace" in rig.accept(rig.chunk(deeper))
    assert rig.accept(rig.chunk(higher, number=2)) == ""
    rig.tick(120)
    assert rig.controller.state.fault == Fault.NONE
    assert tip_height(rig, rig.driver.positions) > -0.01


def test_a_setpoint_that_leaves_the_workspace_is_never_sent(rig):
    rig.driver.stuck = True
    rig.tick(5)
    mark = len(rig.driver.sent)
    rig.controller.command = rig.home + DOWN
    rig.tick()
    assert len(rig.driver.sent) == mark
    assert rig.controller.state.fault == Fault.SETPOINT_INVALID
    assert "workspace" in rig.controller.state.fault_text


def test_a_home_move_through_the_table_is_refused(rig, at):
    # From here the straight way in joint space leads the gripper down before it leads it home.
    away = rig.home.copy()
    away[1:4] = [1.6, 1.5, -0.5]
    assert tip_height(rig, away) > -0.01
    rig = at(away)
    with pytest.raises(Refused, match="on the straight way to home gripper_frame_link would be"):
        rig.operator.home()
    assert rig.state == "HOLDING"
