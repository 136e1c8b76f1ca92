# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Stops, disarming, parking, and faults: how the arm comes to rest, what latches, and who clears it."""

import numpy as np
import pytest
from servo_rig import BRAKING, WAIT, sent_since

from arm_controller.controller_state import Fault, Refused, State


def test_stop_brings_the_arm_to_rest_within_its_acceleration_and_waits_for_the_operator(rig):
    rig.accept(rig.chunk(rig.sway(amplitude=0.4, speed=3.0)))
    rig.tick(40)
    rig.operator.stop()
    mark = len(rig.driver.sent)
    rig.tick(60)
    speed = np.diff(sent_since(rig, mark - 2)[:, 0]) / 0.01
    assert rig.state == "HOLDING" and abs(speed[-1]) == 0
    assert np.abs(np.diff(speed)).max() / 0.01 < BRAKING * rig.contract.joints["shoulder_pan"].acceleration
    assert "call resume" in rig.accept(rig.chunk(np.tile(rig.driver.sent[-1], (30, 1)), 2))


def test_pause_holds_and_resume_goes_on_without_a_snap(rig):
    rig.accept(rig.chunk(rig.sway(), 1))
    rig.tick(20)
    rig.operator.pause()
    rig.tick(60)
    assert rig.state == "HOLDING" and rig.controller.state.paused
    assert rig.accept(rig.chunk(rig.sway(), 2)) != ""
    rig.operator.resume()
    rig.tick(WAIT)
    onwards = np.tile(rig.driver.sent[-1], (30, 1))
    onwards[:, 0] += np.linspace(0.0, 0.4, 30)
    assert rig.accept(rig.chunk(onwards, 3)) == ""
    mark = len(rig.driver.sent)
    rig.tick(40)
    assert (np.abs(np.diff(sent_since(rig, mark - 1), axis=0)) <= rig.contract.values("velocity") * 0.0101).all()


def test_disarming_at_speed_first_comes_to_rest(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(20)
    rig.operator.disarm()
    assert rig.state == "STOPPING"
    rig.tick(60)
    count = len(rig.driver.sent)
    assert rig.state == "DISARMED"
    rig.tick(10)
    assert len(rig.driver.sent) == count


def cut(rig):
    rig.driver.failure = "bus cut"


def stick(rig):
    rig.driver.stuck = True


def stale(rig):
    rig.driver.stale_ns = 10**9


def not_a_number(rig):
    rig.driver.positions[2], rig.driver.stuck = np.nan, True


def jump(rig):
    rig.ros_ns += 80_000_000


def late(rig):
    rig.steady_ns += 600_000_000
    rig.ros_ns += 600_000_000


@pytest.mark.parametrize(
    ("cause", "fault", "named"),
    [
        (cut, Fault.DRIVER, "bus cut"),
        (stick, Fault.TRACKING, "shoulder_pan"),
        (stale, Fault.STATE_STALE, "old"),
        (not_a_number, Fault.STATE_INVALID, "elbow_flex"),
        (jump, Fault.CLOCK_JUMP, "jumped"),
        (late, Fault.TIMER, "late"),
    ],
)
def test_a_fault_is_named_latches_and_never_clears_itself(rig, cause, fault, named):
    rig.accept(rig.chunk(rig.sway(amplitude=0.8, speed=1.5, waypoints=90)))
    rig.tick(20)
    cause(rig)
    rig.tick(150)
    state = rig.controller.state
    assert (state.state, state.fault) == (State.FAULT, fault)
    assert named in state.fault_text
    # The cause goes away; the fault stays until the operator clears it, and even then the arm is disarmed.
    rig.driver.failure, rig.driver.stuck, rig.driver.stale_ns = "", False, 0
    rig.driver.positions = np.nan_to_num(rig.driver.positions)
    rig.tick(50)
    assert rig.state == "FAULT"
    with pytest.raises(Refused, match="clear_fault first"):
        rig.operator.arm()
    rig.operator.clear_fault()
    assert rig.state == "DISARMED"
    count = len(rig.driver.sent)
    rig.tick(20)
    assert len(rig.driver.sent) == count


def test_a_fault_whose_cause_is_still_there_cannot_be_cleared(rig):
    cut(rig)
    rig.tick(2)
    with pytest.raises(Refused, match="bus cut"):
        rig.operator.clear_fault()
    assert rig.state == "FAULT"


def test_in_a_fault_with_feedback_the_arm_ramps_down_and_holds(rig):
    rig.accept(rig.chunk(rig.sway(amplitude=0.5, speed=3.0, waypoints=60)))
    rig.tick(100)
    mark = len(rig.driver.sent)
    jump(rig)
    rig.tick(80)
    speed = np.diff(sent_since(rig, mark - 2)[:, 0]) / 0.01
    assert speed[-1] == 0
    assert np.abs(np.diff(speed)).max() / 0.01 < BRAKING * rig.contract.joints["shoulder_pan"].acceleration


def test_a_path_that_falls_too_far_behind_the_clock_is_stopped_and_says_why(rig):
    positions = np.tile(rig.home, (60, 1))
    positions[:, 0] += 0.3 * np.sign(np.sin(np.arange(60) * 1.6)) * 0.5
    rig.accept(rig.chunk(positions))
    for _ in range(38):
        rig.tick(5)
        if rig.state != "FOLLOWING":
            break
    assert rig.controller.state.state in (State.STOPPING, State.HOLDING)
    assert "behind the clock" in rig.controller.reason


def test_home_and_park_are_slow_moves_that_end_where_they_should(rig):
    rig.operator.park()
    assert rig.accept(rig.chunk(rig.sway())) != ""
    mark = len(rig.driver.sent)
    rig.tick(1200)
    assert rig.state == "HOLDING" and "reached rest" in rig.controller.reason
    assert rig.driver.sent[-1][:-1] == pytest.approx(rig.contract.values("rest")[:-1], abs=1e-3)
    assert rig.driver.sent[-1][-1] == pytest.approx(rig.home[-1])    # what the gripper carries is not dropped
    speed = np.abs(np.diff(sent_since(rig, mark), axis=0)) / 0.01
    assert (speed <= 0.21 * rig.contract.values("velocity")).all()


def test_a_stop_does_not_take_back_a_disarm(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(30)
    rig.operator.disarm()
    rig.tick(1)
    rig.operator.stop()
    rig.tick(100)
    assert rig.state == "DISARMED"


def test_a_device_that_stopped_itself_recovers_only_when_an_operator_clears_the_fault(rig):
    rig.driver.stopped_itself = "reflex"
    rig.tick(20)
    assert rig.state == "FAULT" and rig.controller.state.fault_text == "reflex"
    assert rig.driver.recoveries == 0
    rig.operator.clear_fault()
    assert rig.state == "DISARMED" and rig.driver.recoveries == 1


def test_a_device_that_does_not_recover_says_why_and_stays_in_fault(rig):
    rig.driver.stopped_itself = rig.driver.failure = "the user stop is pressed"
    rig.tick(20)
    with pytest.raises(Refused, match="the cause is still there: the user stop is pressed"):
        rig.operator.clear_fault()
    assert rig.state == "FAULT"
