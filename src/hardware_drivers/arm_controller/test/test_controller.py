# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from servo_rig import WAIT

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault, Refused, State
from arm_controller.peers import PeerStatus
from arm_controller.snapshot import snapshot_of

BRAKING = 1.2    # of the acceleration limit: it is met at points a setpoint apart, and may be passed between them


def sent_since(rig, mark):
    return np.array(rig.driver.sent[mark:])


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


# --- stopping and faults ----------------------------------------------------------------------------------------------
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


def test_the_fault_of_the_other_arm_stops_this_one(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "motor 3 is hot", 0), rig.steady)
    rig.tick()
    assert rig.controller.state.fault == Fault.PEER and "motor 3 is hot" in rig.controller.state.fault_text


def test_a_refusal_of_the_other_arm_stops_this_one(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.accept(rig.chunk(rig.sway()))
    rig.controller.hear_peer("right", PeerStatus(State.FOLLOWING, "", 1), rig.steady)
    assert rig.state == "STOPPING"


def test_the_silence_of_the_other_arm_stops_one_that_follows_a_chunk(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.tick(100)
    assert rig.controller.state.fault == Fault.PEER and "silent" in rig.controller.state.fault_text


def test_an_arm_that_holds_while_the_other_falls_ill_and_recovers_waits_for_its_operator(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "motor 3 is hot", 0), rig.steady)
    rig.tick()
    assert rig.state == "HOLDING"
    assert "motor 3 is hot" in rig.accept(rig.chunk(rig.sway(), 1)) and rig.controller.last.refusal == Refusal.PEER
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.tick()
    assert "call resume" in rig.accept(rig.chunk(rig.sway(), 2)) and rig.controller.last.refusal == Refusal.RESUME
    rig.operator.resume()
    rig.tick(15)
    assert rig.accept(rig.chunk(rig.sway(), 3)) == ""


def test_an_arm_does_not_move_alone_while_the_other_waits_for_an_operator(make_rig):
    """Both need a resume; the chunk that falls between the two calls moves neither and stops neither."""
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0, waits=True), rig.steady)
    rig.operator.stop()
    rig.tick(20)
    rig.operator.resume()
    rig.tick(15)
    assert "waits for an operator; call right/resume" in rig.accept(rig.chunk(rig.sway(), 1))
    assert rig.controller.last.refusal == Refusal.PEER
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 1), rig.steady)
    assert rig.state == "HOLDING" and not rig.controller.state.waits(rig.now)
    assert rig.accept(rig.chunk(rig.sway(), 2)) == ""


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


def test_the_reason_says_when_the_policy_went_silent(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(400)
    assert "the policy has been silent for" in rig.controller.reason


# --- what must not move an arm ----------------------------------------------------------------------------------------
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


def test_a_stop_does_not_take_back_a_disarm(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(30)
    rig.operator.disarm()
    rig.tick(1)
    rig.operator.stop()
    rig.tick(100)
    assert rig.state == "DISARMED"


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


def test_a_bad_chunk_is_named_also_while_paused(rig):
    rig.operator.pause()
    rig.tick(5)
    assert rig.accept(rig.chunk(np.full((30, 6), np.nan)))
    assert rig.controller.last.refusal == Refusal.NOT_FINITE
    assert "paused" in rig.accept(rig.chunk(rig.sway(), 2))


def test_one_fault_on_one_arm_is_cleared_arm_by_arm(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.DISARMED, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.driver.failure = "the bus is silent"
    rig.tick(2)
    rig.driver.failure = ""
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "arm 'arm' is in fault", 0), rig.steady)
    rig.tick()
    rig.operator.clear_fault()
    rig.operator.arm()
    rig.tick()
    assert rig.state == "HOLDING" and "arm 'right' is in fault" in rig.accept(rig.chunk(rig.sway()))


def test_an_arm_whose_peer_was_never_heard_follows_no_chunk(make_rig):
    rig = make_rig(peers=("right",))
    rig.arm_and_wait()
    assert "'right' is silent" in rig.accept(rig.chunk(rig.sway()))
    assert rig.state == "HOLDING" and rig.controller.last.refusal == Refusal.PEER


def test_the_status_carries_the_episode_of_the_running_chunk(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.controller.hear_policy("process", "next", rig.steady)
    snapshot = snapshot_of(rig.controller, 0.0)
    assert (snapshot.chunk_id, snapshot.episode_id) == (1, "episode")


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
