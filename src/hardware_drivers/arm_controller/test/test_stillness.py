# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What must not move an arm."""

import numpy as np
import pytest
from servo_rig import WAIT, sent_since

from arm_controller.controller_state import Fault, Refused


def jump_the_clock(rig):
    rig.ros_ns += 80_000_000


def lose_the_bus_for_a_moment(rig):
    rig.driver.failure = "the bus is silent"
    rig.tick(3)
    rig.driver.failure = ""


@pytest.mark.parametrize("fault", [jump_the_clock, lose_the_bus_for_a_moment])
def test_a_disarmed_arm_that_was_moved_by_hand_stays_where_it_is_whatever_faults(rig, fault):
    rig.operator.disarm()
    rig.tick(5)
    assert rig.state == "DISARMED"
    rig.driver.positions[0] = rig.driver.goal[0] = 1.2
    mark = len(rig.driver.sent)
    fault(rig)
    rig.tick(20)
    assert rig.state == "FAULT" and len(rig.driver.sent) == mark
    rig.operator.clear_fault()
    rig.operator.arm()
    rig.tick(5)
    assert rig.driver.sent[-1][0] == pytest.approx(1.2, abs=0.01)


def test_an_arm_that_fell_while_its_bus_was_silent_is_not_pulled_back_when_it_returns(rig):
    rig.driver.failure = "the bus is silent"
    rig.tick(20)
    mark = len(rig.driver.sent)
    rig.driver.positions[1] += 0.8
    rig.driver.goal = rig.driver.positions.copy()
    rig.driver.failure = ""
    rig.tick(50)
    assert rig.state == "FAULT" and len(rig.driver.sent) == mark


def test_an_arm_that_was_stuck_does_not_spring_when_it_is_freed(rig):
    rig.driver.stuck = True
    rig.accept(rig.chunk(rig.sway(amplitude=0.8)))
    rig.tick(120)
    assert rig.state == "FAULT"
    rig.tick(200)
    before = rig.driver.positions.copy()
    rig.driver.stuck = False
    rig.tick(50)
    assert rig.driver.positions == pytest.approx(before, abs=0.01)


def test_feedback_that_repeats_itself_while_the_arm_is_told_to_move_is_a_fault_and_soon_nothing_is_sent(rig):
    rig.driver.frozen = True
    positions = rig.sway(amplitude=0.8)
    positions[:, 1] += positions[:, 0]
    assert rig.accept(rig.chunk(positions)) == ""
    rig.tick(120)
    assert rig.controller.state.fault == Fault.STATE_FROZEN
    assert "repeat themselves" in rig.controller.reason
    mark = len(rig.driver.sent)
    rig.tick(50)
    assert len(rig.driver.sent) == mark


@pytest.mark.parametrize("pose", ["home", "rest"])
def test_after_home_or_park_the_policy_waits_for_the_operator(rig, pose):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(150)
    {"home": rig.operator.home, "rest": rig.operator.park}[pose]()
    rig.tick(1500)
    assert rig.state == "HOLDING"
    held = rig.driver.sent[-1]
    positions = held + np.zeros((30, 6))
    assert "call resume" in rig.accept(rig.chunk(positions, 2))
    rig.operator.resume()
    rig.tick(WAIT)
    assert rig.accept(rig.chunk(positions, 3)) == ""


@pytest.mark.parametrize("age", [10.0, float("nan")])
def test_an_arm_whose_state_is_unknown_is_not_armed(make_rig, age):
    rig = make_rig()
    if np.isnan(age):
        rig.driver.positions[2] = np.nan
    else:
        rig.driver.stale_ns = int(age * 1e9)
    rig.tick()
    with pytest.raises(Refused, match="joint state is|is not a number"):
        rig.operator.arm()
    assert rig.state == "DISARMED" and rig.driver.sent == []


def test_an_arm_outside_its_limits_is_not_armed_with_a_step(make_rig):
    rig = make_rig()
    rig.driver.positions[0] = rig.controller.gate.upper[0] + 0.2
    rig.driver.goal = rig.driver.positions.copy()
    rig.tick(2)
    with pytest.raises(Refused, match="'shoulder_pan' is 0.200 outside its limits"):
        rig.operator.arm()
    assert rig.state == "DISARMED" and rig.driver.sent == []


def test_another_episode_does_not_go_on_by_itself_after_running_out(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(150)
    assert rig.state == "HOLDING"
    rig.controller.hear_policy("process", "another", rig.steady)
    positions = np.tile(rig.driver.sent[-1], (30, 1))
    assert "earlier episode" in rig.accept(rig.chunk(positions, 2, episode_id="another"))


def test_after_a_pause_of_the_setpoints_the_arm_starts_from_rest(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(30)
    assert rig.controller.rate > 0.5
    rig.tick(1, dt_ns=300_000_000)
    mark = len(rig.driver.sent)
    rig.tick(5)
    assert rig.state == "FOLLOWING"
    speed = np.abs(np.diff(sent_since(rig, mark - 2)[:, 0])) * 100
    assert speed[0] < 0.1 < speed[-1]


def test_a_setpoint_too_far_from_the_last_one_is_never_sent(rig):
    rig.tick(5)
    mark = len(rig.driver.sent)
    rig.controller.command = rig.controller.command + 0.1
    rig.tick(10)
    assert rig.controller.state.fault == Fault.SETPOINT_INVALID
    assert len(rig.driver.sent) == mark
