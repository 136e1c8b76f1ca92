# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The leader: it is read and never written, and the follower is led to it without a leap."""

import numpy as np
import pytest
from arm_rig import refusal

from arm_controller.chunk import Chunk
from arm_controller.safety_gate import SafetyGate
from so101_driver import protocol
from so101_driver.calibration import MOTORS
from so101_driver.double.plants import START
from so101_driver.leader import AHEAD, FALLS, LASTS, NEAR, SHARE, LeaderArm, LeaderPlan, LeaderWatch

TAG = "so100_so101_molmoact2"


@pytest.fixture
def plan(contract):
    plan = LeaderPlan(contract, contract.arm("arm"), contract.norm_tag(TAG))
    plan.begin(contract.values("home", MOTORS), 100.0)
    return plan


def leader_of(rig):
    return LeaderArm(rig.link, 1_000_000, rig.calibration, "of the test", MOTORS)


def test_a_leader_is_read_and_nothing_is_ever_written_to_it(rig):
    leader = leader_of(rig)
    assert leader.read(7).positions[:5] == pytest.approx(START[:5], abs=0.002)
    leader.close()
    assert not {code for _, code, _ in rig.bus.instructions} & {protocol.WRITE, protocol.SYNC_WRITE}


def test_a_leader_that_holds_is_refused(armed):
    armed.driver.close()
    assert "cannot be led by hand" in refusal(lambda: leader_of(armed))


def test_a_silent_servo_of_the_leader_is_named_as_the_leaders(rig):
    leader = leader_of(rig)
    rig.spoil("silent 2")
    assert refusal(lambda: leader.read(7)).startswith("leader: servo 2 does not answer")
    leader.close()


def test_a_plan_begins_where_the_follower_is_and_comes_to_the_leader_slowly_at_first(plan, contract):
    home = contract.values("home", MOTORS)
    leader = home + np.array([0.5, 0, 0, 0, 0, 0])
    waypoints = plan.waypoints(leader, 100.0)
    assert np.abs(waypoints[0] - home).max() < 0.05
    assert waypoints[-1, 0] - home[0] < 0.5 * LASTS
    for tick in range(1, 60):
        waypoints = plan.waypoints(leader, 100.0 + tick / 15)
    assert plan.agreed and waypoints[0] == pytest.approx(leader, abs=1e-9)


def test_plans_are_never_faster_than_a_share_of_the_limits_and_meet_each_other(plan, contract):
    home, step = contract.values("home", MOTORS), SHARE * contract.values("velocity", MOTORS) / 30 + 1e-9
    plan.waypoints(home, 100.0)
    before = None
    for tick in range(1, 150):
        now = 100.0 + tick / 30
        leader = home + np.array([0.8 * np.sin(3 * now), 0, 0, 0, 1.0 * np.cos(9 * now), 0])
        waypoints = plan.waypoints(leader, now)
        assert (np.abs(np.diff(waypoints, axis=0)) <= step).all()
        # One step of the point itself, and where the leader has turned round one ahead and one back.
        assert before is None or (np.abs(waypoints[0] - before[0]) <= 3 * step).all()
        before = waypoints


def test_a_leader_beyond_the_followers_limits_leads_it_to_the_limit(plan, contract):
    far = np.full(6, 9.0)
    for tick in range(600):
        waypoints = plan.waypoints(far, 100.0 + tick / 15)
    assert waypoints[-1] == pytest.approx(contract.values("upper", MOTORS))


def test_the_controllers_own_gate_takes_a_plan(plan, contract):
    home = contract.values("home", MOTORS)
    waypoints = plan.waypoints(home + 0.2, 100.0)
    tag = contract.norm_tag(TAG)
    chunk = Chunk(1, "episode", 100.0, tag.dt, tag.first_offset, len(waypoints), MOTORS, waypoints.ravel())
    gate = SafetyGate(contract, contract.arm("arm"))
    assert gate.waypoints(chunk, home, 100.05) == pytest.approx(waypoints)


@pytest.fixture
def watched(contract):
    """A watch, where the follower is, and the leader that it begins with at that pose."""
    home = contract.values("home", MOTORS)
    watch = LeaderWatch(contract, contract.arm("arm"))
    assert watch.look(home, home, 100.0, 100.001, led=False) == ""
    return watch, home


def moved(home, joint, angle):
    pose = home.copy()
    pose[MOTORS.index(joint)] += angle
    return pose


def test_a_leader_far_from_the_follower_begins_nothing_and_the_joint_is_named(watched):
    watch, home = watched
    text = watch.look(moved(home, "elbow_flex", NEAR + 0.1), home, 101.0, 101.001, led=False)
    assert "elbow_flex is 0.60 rad from the follower's" in text and "bring the leader" in text
    assert watch.look(moved(home, "elbow_flex", NEAR - 0.1), home, 102.0, 102.001, led=False) == ""


def test_a_leader_that_is_let_go_leads_nothing_more_until_an_operator_begins_anew(watched, contract):
    watch, home = watched
    falling = moved(home, "shoulder_lift", 1.01 * FALLS * contract.joints["shoulder_lift"].velocity / 10)
    assert "shoulder_lift moved at" in watch.look(falling, home, 100.099, 100.1, led=True)
    assert "was let go" in watch.look(home, home, 105.0, 105.001, led=True)
    assert "was let go" in watch.look(home, home, 106.0, 106.001, led=False)
    watch.begin()
    assert watch.look(home, home, 107.0, 107.001, led=False) == ""


def test_a_hand_that_leads_is_not_taken_for_a_fall(watched, contract):
    watch, home = watched
    most = 0.9 * FALLS * contract.joints["wrist_flex"].velocity / 10
    for step in range(1, 20):
        pose = moved(home, "wrist_flex", most if step % 2 else 0.0)
        assert watch.look(pose, home, 100.0 + step / 10, 100.001 + step / 10, led=True) == ""


def test_a_reading_that_took_long_is_not_taken_for_a_fall(watched, contract):
    watch, home = watched
    far = moved(home, "shoulder_pan", 1.5 * FALLS * contract.joints["shoulder_pan"].velocity / 10)
    assert watch.look(far, home, 100.1, 100.2, led=True) == ""


def test_a_leader_that_runs_ahead_of_its_follower_leads_nothing_more(watched):
    watch, home = watched
    for step in range(1, 30):
        away = step * 0.04
        text = watch.look(moved(home, "wrist_roll", away), home, 100.0 + step / 15, 100.001 + step / 15, led=True)
        assert bool(text) == (away > AHEAD)
    assert "wrist_roll" in text and "lead slower" in text


def test_a_trigger_may_be_snapped_and_be_anywhere(watched):
    watch, home = watched
    assert watch.look(moved(home, "gripper", 0.7), home, 100.06, 100.061, led=True) == ""
    assert watch.look(moved(home, "gripper", 0.7), home, 100.12, 100.121, led=False) == ""
