# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks are followed, joined, slowed and refused."""

import numpy as np
import pytest
from servo_rig import BRAKING, WAIT, sent_since

from arm_controller.chunk import Refusal
from arm_controller.snapshot import snapshot_of


# --- following --------------------------------------------------------------------------------------------------------
def test_nothing_is_sent_before_an_operator_arms(make_rig):
    rig = make_rig()
    assert rig.accept(rig.chunk(rig.sway())) != ""
    rig.tick(50)
    assert rig.state == "DISARMED" and rig.driver.sent == []


def test_an_armed_arm_holds_until_a_chunk_comes(rig):
    rig.tick(100)
    assert rig.state == "HOLDING"
    assert np.ptp(np.array(rig.driver.sent), axis=0).max() == 0


def test_a_chunk_is_followed_by_the_clock_of_its_capture_not_of_its_arrival(rig):
    positions = rig.sway(age=0.3)
    assert rig.accept(rig.chunk(positions, age=0.3)) == ""
    capture = rig.now - 0.3
    rig.tick(50)
    assert rig.state == "FOLLOWING"
    lag = rig.controller.lag    # of starting from rest
    assert lag < 0.1
    expected = np.interp(rig.now - lag, capture + (np.arange(30) + 1) / 30, positions[:, 0])
    assert rig.driver.sent[-1][0] == pytest.approx(expected, abs=1e-3)
    assert rig.controller.last.consumed == 8 or rig.controller.last.consumed == 9


def test_successive_chunks_join_without_a_step_and_within_the_speed_limits(rig):
    rng = np.random.default_rng(3)
    for number in range(1, 12):
        positions = rig.sway() + rng.normal(0, 0.03, (1, 6))
        positions[:, 5] = np.clip(positions[:, 5], 0, 1)
        assert rig.accept(rig.chunk(positions, number)) == ""
        rig.tick(40)
    steps = np.abs(np.diff(np.array(rig.driver.sent), axis=0))
    limit = rig.contract.values("velocity") * rig.controller.period
    assert (steps <= limit * (1 + 1e-6)).all()
    assert steps[:, 0].max() > 0.001


def test_what_is_too_fast_is_slowed_along_the_path_and_the_path_does_not_bend(rig):
    positions = np.tile(rig.home, (30, 1))
    share = np.minimum(np.arange(30) / 3, 1)[:, None]
    direction = np.array([0.9, 0.45, 0.0, 0.0, 0.3, 0.0])
    positions += share * direction
    mark = len(rig.driver.sent)
    assert rig.accept(rig.chunk(positions, age=0.03)) == ""
    rig.tick(70)
    moved = sent_since(rig, mark) - rig.home
    assert moved[:, 0].max() > 0.5
    along = moved @ direction / (direction @ direction)
    assert np.abs(moved - along[:, None] * direction).max() < 1e-6, "setpoints left the line the path goes along"
    assert (np.abs(np.diff(moved, axis=0)) <= rig.contract.values("velocity") * 0.01 * (1 + 1e-6)).all()


def test_running_out_of_waypoints_ends_in_holding_at_the_last_one(rig):
    positions = rig.sway()
    rig.accept(rig.chunk(positions))
    rig.tick(150)
    assert rig.state == "HOLDING" and "ran out of waypoints of chunk 1" in rig.controller.reason
    assert rig.driver.sent[-1] == pytest.approx(positions[-1], abs=2e-3)
    held = rig.driver.sent[-1]
    rig.tick(50)
    assert (rig.driver.sent[-1] == held).all()


def test_at_the_end_of_a_chunk_the_speed_falls_within_the_acceleration_limit(rig):
    positions = np.tile(rig.home, (30, 1))
    positions[:, 0] += np.linspace(0, 1.2, 30)
    rig.accept(rig.chunk(positions, age=0.0))
    rig.tick(150)
    speed = np.diff(np.array(rig.driver.sent)[:, 0]) / 0.01
    braking = np.diff(speed[-130:]).min() / 0.01
    assert braking > -BRAKING * rig.contract.joints["shoulder_pan"].acceleration


def test_the_same_policy_goes_on_by_itself_soon_after_running_out_but_not_later(rig):
    rig.accept(rig.chunk(rig.sway(), 1))
    rig.tick(150)
    assert rig.state == "HOLDING"
    assert rig.accept(rig.chunk(np.tile(rig.driver.sent[-1], (30, 1)), 2)) == ""
    rig.tick(150)
    rig.tick(int(rig.contract.resume_within * 100) + 10)
    assert "call resume" in rig.accept(rig.chunk(np.tile(rig.driver.sent[-1], (30, 1)), 3))
    assert rig.controller.last.refusal == Refusal.RESUME
    rig.operator.resume()
    rig.tick(WAIT)
    assert rig.accept(rig.chunk(np.tile(rig.driver.sent[-1], (30, 1)), 4)) == ""


def test_a_new_policy_process_moves_nothing_before_an_operator_resumes(rig):
    rig.accept(rig.chunk(rig.sway(), 1))
    rig.tick(10)
    rig.controller.hear_policy("another process", "episode", rig.steady)
    assert "new policy process" in rig.accept(rig.chunk(rig.sway(), 2))
    rig.operator.resume()
    rig.tick(WAIT)
    assert rig.accept(rig.chunk(rig.sway(), 3)) == ""


def test_shadow_computes_everything_and_sends_nothing(make_rig):
    rig = make_rig(shadow=True)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.tick(50)
    assert rig.state == "FOLLOWING" and rig.driver.sent == []
    assert np.abs(rig.controller.command - rig.home).max() > 0.01


def test_an_arm_at_rest_takes_up_a_plan_that_has_gone_far_since_it_was_observed(rig):
    age, reached = 0.45, 0.6
    positions = np.tile(rig.home, (30, 1))
    positions[:, 0] += np.linspace(0.0, 2 * reached, 30)
    assert np.interp(age, np.arange(1, 31) / 30, positions[:, 0]) - rig.home[0] > rig.contract.values("max_step")[0]
    assert rig.accept(rig.chunk(positions, age=age)) == ""
    rig.tick(150)
    assert rig.controller.command == pytest.approx(positions[-1], abs=1e-6)


def test_a_plan_is_plausible_for_an_arm_that_has_moved_far_as_planned_since_it_was_observed(rig):
    ramp = np.tile(rig.home, (30, 1))
    ramp[:, 0] += np.linspace(0.0, 1.2, 30)
    assert rig.accept(rig.chunk(ramp)) == ""
    rig.tick(60)
    moved = rig.controller.measured.positions[0] - rig.home[0]
    assert moved > rig.contract.values("max_step")[0]
    later = ramp + np.array([0.05, 0, 0, 0, 0, 0])
    assert rig.accept(rig.chunk(later, 2, age=0.6)) == ""


# --- refusals ---------------------------------------------------------------------------------------------------------
def bad(rig, **changes):
    return rig.chunk(rig.sway(), **changes)


def with_value(rig, value):
    positions = rig.sway()
    positions[3, 2] = value
    return positions


@pytest.mark.parametrize(
    ("refusal", "make"),
    [
        (Refusal.NOT_FINITE, lambda r: r.chunk(with_value(r, np.nan))),
        (Refusal.NOT_FINITE, lambda r: r.chunk(with_value(r, np.inf))),
        (Refusal.LIMITS, lambda r: r.chunk(with_value(r, 2.0))),
        (Refusal.STEP, lambda r: r.chunk(with_value(r, -0.2))),
        (Refusal.STEP, lambda r: r.chunk(r.sway() + np.array([0.6, 0, 0, 0, 0, 0]))),
        (Refusal.STEP, lambda r: r.chunk(with_value(r, -0.2), age=0.3)),
        (Refusal.EPISODE, lambda r: bad(r, episode_id="earlier")),
        (Refusal.EPISODE, lambda r: bad(r, episode_id="")),
        (Refusal.JOINTS, lambda r: bad(r, joint_names=("tail", *r.contract.joint_names[1:]))),
        (Refusal.JOINTS, lambda r: bad(r, joint_names=("gripper", *r.contract.joint_names[1:]))),
        (Refusal.JOINTS, lambda r: r.chunk(r.sway()[:, 1:], joint_names=r.contract.joint_names[1:])),
        (Refusal.SHAPE, lambda r: bad(r, horizon=29)),
        (Refusal.SHAPE, lambda r: bad(r, horizon=0)),
        (Refusal.TIMING, lambda r: bad(r, dt=0.1)),
        (Refusal.TIMING, lambda r: bad(r, dt=0.0)),
        (Refusal.TIMING, lambda r: bad(r, dt=float("nan"))),
        (Refusal.TIMING, lambda r: bad(r, first_offset=-3.0)),
        (Refusal.STAMP, lambda r: bad(r, stamp=0.0)),
        (Refusal.STAMP, lambda r: bad(r, stamp=r.now + 1.0)),
        (Refusal.PAST, lambda r: r.chunk(r.sway()[:3], age=0.2)),
        (Refusal.STALE, lambda r: r.chunk(r.sway(), age=r.contract.max_observation_age + 0.05)),
    ],
)
def test_a_bad_chunk_is_refused_by_name_and_the_arm_goes_on_as_it_was(rig, refusal, make):
    rig.accept(rig.chunk(rig.sway(waypoints=60), 1))
    rig.tick(20)
    before = rig.controller.scheduler.path
    text = rig.accept(make(rig))
    assert text and rig.controller.last.refusal == refusal, text
    assert rig.controller.scheduler.path is before and rig.state == "FOLLOWING"
    assert rig.controller.counters.refused == 1


def test_a_chunk_observed_no_later_than_the_running_one_is_refused(rig):
    rig.accept(rig.chunk(rig.sway(), 1, age=0.1))
    rig.tick(5)
    assert rig.accept(rig.chunk(rig.sway(age=0.15), 2, age=0.15)) != ""
    assert rig.controller.last.refusal == Refusal.OLDER


def test_joints_are_taken_by_name_in_any_order(rig):
    order = [5, 3, 1, 0, 2, 4]
    names = tuple(rig.contract.joint_names[i] for i in order)
    positions = rig.sway()
    assert rig.accept(rig.chunk(positions[:, order], joint_names=names)) == ""
    rig.tick(60)
    assert np.abs(np.array(rig.driver.sent)[-1, 1:] - rig.home[1:]).max() < 1e-9


def test_the_reason_says_when_the_policy_went_silent(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(400)
    assert "the policy has been silent for" in rig.controller.reason


def test_a_bad_chunk_is_named_also_while_paused(rig):
    rig.operator.pause()
    rig.tick(5)
    assert rig.accept(rig.chunk(np.full((30, 6), np.nan)))
    assert rig.controller.last.refusal == Refusal.NOT_FINITE
    assert "paused" in rig.accept(rig.chunk(rig.sway(), 2))


def test_the_status_carries_the_episode_of_the_running_chunk(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.controller.hear_policy("process", "next", rig.steady)
    snapshot = snapshot_of(rig.controller, 0.0)
    assert (snapshot.chunk_id, snapshot.episode_id) == (1, "episode")
