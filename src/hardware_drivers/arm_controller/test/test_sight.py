# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing is done by where the arm was: after hangs, in faults, and to observations from before."""

import numpy as np
import pytest
from servo_rig import WAIT

from arm_controller.chunk import Refusal
from arm_controller.clock import ClockMap, both_clocks
from arm_controller.controller_state import Fault, Refused, State
from arm_controller.driver import ArmState
from arm_controller.peers import PeerStatus


def put(rig, joint: int, position: float) -> None:
    """A hand moves a joint of an arm that yields."""
    rig.driver.positions[joint] = rig.driver.goal[joint] = position


def hang(rig, seconds: float, ros: float | None = None) -> None:
    """No ticks for so long; ros: how far ROS time goes on meanwhile."""
    rig.steady_ns += int(seconds * 1e9)
    rig.ros_ns += int((seconds if ros is None else ros) * 1e9)
    rig.driver.now_ns = rig.ros_ns


@pytest.mark.parametrize(("seconds", "ros"), [(2.0, 2.0), (0.01, 60.0)], ids=["hang", "suspend"])
def test_a_guided_arm_is_held_where_the_hand_has_led_it_meanwhile(rig, seconds, ros):
    rig.operator.hand_guide()
    rig.tick(5)
    hang(rig, seconds, ros)
    rig.driver.positions[0] = 0.3
    rig.tick(5)
    assert rig.state == "FAULT"
    assert all(abs(sent[0] - 0.3) < 1e-6 for sent in rig.driver.sent[-5:])


def test_an_arm_that_was_moved_while_nothing_ticked_is_armed_where_it_is(make_rig):
    rig = make_rig()
    hang(rig, 10.0)
    put(rig, 0, 0.8)
    rig.operator.arm()
    rig.tick(5)
    assert all(abs(sent[0] - 0.8) < 1e-6 for sent in rig.driver.sent)


def test_a_resume_takes_a_guided_arm_back_where_it_is_now_not_where_it_was(rig):
    rig.operator.hand_guide()
    rig.tick(5)
    hang(rig, 0.4)
    rig.driver.positions[0] = 0.3
    mark = len(rig.driver.sent)
    rig.operator.resume()
    rig.tick(5)
    assert all(abs(sent[0] - 0.3) < 1e-6 for sent in rig.driver.sent[mark:])


def test_an_observation_from_before_a_resume_moves_nothing(rig):
    rig.operator.hand_guide()
    rig.tick(5)
    before = rig.chunk(np.tile(rig.home, (30, 1)), age=0.0)
    rig.driver.push[0] = 0.02
    rig.tick(10)
    rig.driver.push[0] = 0.0
    rig.operator.resume()
    assert "before the arm was last armed" in rig.accept(before)
    assert rig.controller.last.refusal == Refusal.OLDER
    mark = len(rig.driver.sent)
    rig.tick(20)
    assert np.ptp(np.array(rig.driver.sent[mark:]), axis=0).max() < 1e-9


def test_in_fault_nothing_is_sent_once_the_arm_cannot_be_seen(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(np.tile(rig.home, (30, 1)))) == ""
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "a motor is hot", 0), rig.steady)
    rig.tick(2)
    assert rig.controller.state.fault == Fault.PEER
    rig.driver.failure = "the bus is silent"
    rig.tick(5)
    rig.driver.failure = ""
    mark = len(rig.driver.sent)
    put(rig, 1, rig.home[1] + 0.8)
    rig.tick(50)
    assert len(rig.driver.sent) == mark
    assert rig.controller.state.fault == Fault.PEER


def test_an_arm_that_is_pushed_aside_in_fault_is_let_go_of_slowly_and_does_not_spring_back(rig):
    hang(rig, 2.0)
    rig.tick(5)
    assert rig.controller.state.fault == Fault.TIMER
    rig.driver.stuck = True
    for _ in range(50):
        rig.driver.positions[0] += 0.01
        rig.tick()
    rig.tick(400)
    rig.driver.stuck = False
    rig.tick(50)
    assert rig.driver.positions[0] == pytest.approx(rig.home[0] + 0.5, abs=0.01)


def test_a_fault_is_not_cleared_while_the_arm_is_still_coming_to_rest(rig):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(30)
    rig.steady_ns += 600_000_000
    rig.ros_ns += 900_000_000
    rig.tick(1)
    rig.controller.rate = 0.5    # as after a fault that found it moving
    with pytest.raises(Refused, match="still coming to rest"):
        rig.operator.clear_fault()
    rig.tick(100)
    rig.operator.clear_fault()
    assert rig.state == "DISARMED"


def test_an_arm_in_fault_can_be_left_to_its_device_and_the_fault_stays(rig):
    hang(rig, 2.0)
    rig.tick(50)
    assert rig.state == "FAULT"
    rig.operator.disarm()
    mark = len(rig.driver.sent)
    rig.tick(20)
    assert rig.state == "FAULT"
    assert len(rig.driver.sent) == mark


def test_a_reading_that_repeats_its_stamp_is_stale_though_its_stamp_lies_ahead(rig, monkeypatch):
    reading = rig.driver.read()
    monkeypatch.setattr(rig.driver, "read", lambda: ArmState(reading.positions, rig.ros_ns + 40_000_000))
    rig.tick(3)
    still = rig.driver.read()
    monkeypatch.setattr(rig.driver, "read", lambda: still)
    rig.tick(30)
    assert rig.controller.state.fault == Fault.STATE_STALE


def test_a_reading_from_the_future_is_a_fault(rig, monkeypatch):
    read = rig.driver.read
    monkeypatch.setattr(rig.driver, "read", lambda: ArmState(read().positions, rig.ros_ns + 3_600_000_000_000))
    rig.tick(2)
    assert rig.controller.state.fault == Fault.STATE_INVALID
    assert "in the future" in rig.controller.reason


@pytest.mark.parametrize(
    ("took", "ahead", "fault"),
    [(0.1, 0.097, Fault.NONE), (0.1, 0.16, Fault.STATE_INVALID), (0.0, 0.097, Fault.STATE_INVALID)],
)
def test_what_was_captured_while_the_device_was_waited_for_is_not_from_the_future(
    make_rig, monkeypatch, took, ahead, fault
):
    watch = [0.0]    # [s]
    rig = make_rig(stopwatch=lambda: watch[0])
    rig.arm_and_wait()
    read = rig.driver.read

    def slow() -> ArmState:
        watch[0] += took
        return ArmState(read().positions, rig.ros_ns + int(ahead * 1e9))

    monkeypatch.setattr(rig.driver, "read", slow)
    rig.tick()
    assert rig.controller.state.fault == fault


def test_the_clocks_are_those_of_one_moment_though_the_process_stood_still_between_them():
    steady, ros = iter([0, 97_000_000, 98_000_000, 98_000_500]), iter([1_097_000_000, 1_098_000_200])
    clock = ClockMap()
    clock.update(-10_000_000, 990_000_000)
    assert clock.update(*both_clocks(lambda: next(steady), lambda: next(ros))) == 0.0
    assert clock.update(100_000_000, 1_197_000_000) == pytest.approx(0.097, abs=1e-3)


def test_a_gripper_on_an_object_is_no_fault_though_coarse_encoders_repeat_themselves(rig, monkeypatch):
    encoder = 2 * np.pi / 4096
    blocked, read = np.array([9, 9, 9, 9, 9, 0.35]), rig.driver.read

    def quantised() -> ArmState:
        return ArmState(np.minimum(np.round(read().positions / encoder) * encoder, blocked), rig.ros_ns)

    monkeypatch.setattr(rig.driver, "read", quantised)
    positions = np.tile(rig.home, (30, 1))
    positions[:, 5] = np.linspace(rig.home[5], 0.9, 30)
    assert rig.accept(rig.chunk(positions)) == ""
    rig.tick(200)
    assert rig.controller.state.fault == Fault.NONE


# --- chunks that are none ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("age", [0.999, 0.985, 0.96])
def test_a_chunk_with_next_to_nothing_left_is_refused_and_nothing_steps(rig, age):
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.tick(80)
    late = rig.chunk(rig.sway(age=age)[:29], 2, age=age)
    assert rig.accept(late) != ""
    rig.tick(60)
    acceleration = np.abs(np.diff(np.array(rig.driver.sent), 2, axis=0)).max(axis=0) * 1e4
    assert (acceleration <= 1.2 * rig.contract.values("acceleration")).all()


def test_a_chunk_without_an_id_is_refused(rig):
    assert "chunk_id is 0" in rig.accept(rig.chunk(rig.sway(), 0))


# --- two arms ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def pair(make_rig):
    """An arm whose peer is well and holds."""
    rig = make_rig(peers=("right",))

    def say(state: State, refused: int, refused_id: int) -> None:
        rig.controller.hear_peer("right", PeerStatus(state, "", refused, refused_id), rig.steady)

    say(State.HOLDING, 0, 0)
    rig.operator.arm()
    for _ in range(WAIT):
        rig.tick()
        say(State.HOLDING, 0, 0)
    return rig, say


def test_a_chunk_that_the_other_arm_has_refused_before_is_not_followed(pair):
    rig, say = pair
    say(State.HOLDING, 1, 7)
    assert "arm 'right' refused it" in rig.accept(rig.chunk(rig.sway(), 7))
    assert rig.controller.last.refusal == Refusal.PEER
    assert rig.accept(rig.chunk(rig.sway(), 8, age=0.05)) == ""


@pytest.mark.parametrize("state", [State.DISARMED, State.STOPPING])
def test_an_arm_whose_peer_was_stopped_stops_too(pair, state):
    rig, say = pair
    assert rig.accept(rig.chunk(rig.sway())) == ""
    say(State.FOLLOWING, 0, 0)
    assert rig.state == "FOLLOWING"
    say(state, 0, 0)
    assert rig.state == "STOPPING"
    assert "both stop" in rig.controller.reason


def test_a_home_move_goes_on_while_the_other_arm_refuses_the_policys_chunks(pair):
    rig, say = pair
    rig.operator.home()
    say(State.HOLDING, 5, 5)
    assert rig.state == "FOLLOWING"
