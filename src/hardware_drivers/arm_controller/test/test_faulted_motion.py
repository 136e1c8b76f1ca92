# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What an arm that moves does at a fault: it never stops dead, never turns round at once, and never presses on."""

import numpy as np
import pytest
from servo_rig import ArmState, DriverError, Rig

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault

ACCELERATION, JERK = 1.15, 1.6    # of the limits; they are met at points a setpoint apart
BLOCKED = 3


def derivatives(rig, since):
    """Velocities and accelerations of what was sent, from setpoint `since` on."""
    velocity = np.diff(np.array(rig.driver.sent[since - 3 :]), axis=0) * rig.contract.setpoint_hz
    return velocity, np.diff(velocity, axis=0) * rig.contract.setpoint_hz


def follow(rig, until, positions):
    """Follows chunks, a new one every 20 ticks, until something holds; returns how much had been sent by then."""
    for tick in range(2000):
        if until():
            return len(rig.driver.sent)
        if tick % 20 == 0 and rig.state in ("HOLDING", "FOLLOWING"):
            assert rig.accept(rig.chunk(positions(), 1 + tick)) == ""
        rig.tick()
    raise AssertionError("it never came to that")


def fast(rig):
    return len(rig.driver.sent) > 2 and abs(rig.driver.sent[-1][0] - rig.driver.sent[-2][0]) * 100 > 1.0


def spoil_reading(rig, spoil, times):
    """The next readings are spoilt, or fail where spoil raises."""
    read, left = rig.driver.read, [times]

    def spoilt():
        state = read()
        if left[0] > 0:
            left[0] -= 1
            return spoil(state)
        return state

    rig.driver.read = spoilt


def leapt(state):
    return ArmState(state.positions + np.array([0, 0, 0, 0, 0, 0.65]), state.stamp_ns)


def no_number(state):
    return ArmState(state.positions * np.nan, state.stamp_ns)


def old(state):
    return ArmState(state.positions, state.stamp_ns - 250_000_000)


def lost(state):
    raise DriverError("a packet was lost")


@pytest.mark.parametrize("times", [1, 1000])
@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (leapt, Fault.STATE_INVALID), (no_number, Fault.STATE_INVALID), (old, Fault.STATE_STALE), (lost, Fault.DRIVER),
    ],
)
def test_an_arm_that_moves_when_it_cannot_be_seen_ramps_down_and_then_nothing_is_sent(rig, spoil, fault, times):
    begun = follow(rig, lambda: fast(rig), lambda: rig.sway(amplitude=0.6, speed=2.0))
    spoil_reading(rig, spoil, times)
    rig.tick(100)
    assert (rig.state, rig.controller.state.fault) == ("FAULT", fault)
    velocity, acceleration = derivatives(rig, begun)
    assert len(rig.driver.sent) > begun + 3 and np.abs(velocity[-1]).max() < 0.05
    assert (np.abs(acceleration).max(axis=0) <= ACCELERATION * rig.contract.values("acceleration")).all()
    silent = len(rig.driver.sent)
    rig.tick(100)
    assert len(rig.driver.sent) == silent and rig.controller.command is None


def test_a_device_that_takes_no_setpoint_any_more_is_not_asked_again(rig):
    begun = follow(rig, lambda: fast(rig), lambda: rig.sway(amplitude=0.6, speed=2.0))
    rig.driver.failure = "unplugged"
    rig.tick(50)
    assert len(rig.driver.sent) == begun and rig.controller.command is None


def two_joints(rig):
    """One joint sways fast; another is told to go where it cannot."""
    positions = rig.sway(amplitude=0.6, speed=2.0)
    times = rig.now - 0.1 + (np.arange(30) + 1) / 30 - rig.began_ns / 1e9
    positions[:, 4] = rig.home[4] + 0.6 * np.sin(2.0 * times)
    positions[:, BLOCKED] = rig.home[BLOCKED] - 0.43 * np.clip(np.sin(times), 0, 1)
    return positions


def block(rig):
    read = rig.driver.read

    def blocked():
        state = read()
        rig.driver.positions[BLOCKED] = rig.home[BLOCKED] + 1e-6 * (-1) ** len(rig.driver.sent)
        return ArmState(rig.driver.positions.copy(), state.stamp_ns)

    rig.driver.read = blocked


def test_one_joint_that_is_blocked_brings_all_to_rest_within_their_limits(rig):
    block(rig)
    begun = follow(rig, lambda: rig.state == "FAULT", lambda: two_joints(rig))
    assert rig.controller.state.fault == Fault.TRACKING
    rig.tick(300)
    velocity, acceleration = derivatives(rig, begun)
    assert np.abs(velocity[:3]).max() > 0.3
    limits = rig.contract.values("acceleration")
    assert (np.abs(acceleration).max(axis=0) <= ACCELERATION * limits).all()
    assert (np.abs(velocity).max(axis=0) <= rig.contract.values("velocity") * 1.001).all()


def test_an_arm_that_does_not_follow_is_yielded_to_also_outside_its_workspace(rig):
    """A person holds it below the table: its command goes there, and it does not spring when let go of."""
    held = rig.home + np.array([0, 1.4, 0.3, -0.5, 0, 0])
    assert rig.arm.depths(held).max() > 0.02
    start, ticks = rig.driver.positions.copy(), [0]

    def read():
        ticks[0] += 1
        share = min(ticks[0] / 60, 1.0)
        rig.driver.positions = start + (held - start) * share + 1e-6 * (-1) ** ticks[0]
        return ArmState(rig.driver.positions.copy(), rig.driver.now_ns)

    rig.driver.read = read
    rig.tick(800)
    assert rig.controller.state.fault == Fault.TRACKING
    assert np.abs(rig.driver.goal - held)[:5].max() < 0.01


def test_a_yielding_arm_that_is_lost_from_sight_is_left_to_its_device(rig):
    rig.accept(rig.chunk(rig.sway(amplitude=0.8)))
    rig.driver.stuck = True
    rig.tick(90)
    assert rig.controller.state.fault == Fault.TRACKING
    spoil_reading(rig, no_number, 1)
    rig.tick(2)
    assert rig.controller.command is None
    assert np.abs(rig.driver.goal - rig.driver.positions).max() < 1e-3    # it holds where it is


def test_a_chunk_that_would_move_the_arm_on_for_long_is_refused(rig):
    long = rig.chunk(rig.sway(waypoints=200), dt=1 / 30)
    text = rig.accept(long)
    assert "it lasts 6.7 s; chunks of up to 5 s are followed" in text
    assert rig.controller.last.refusal == Refusal.SHAPE
    assert "257 waypoints; 1 to 256 are followed" in rig.accept(rig.chunk(rig.sway(waypoints=257)))


def test_an_ensemble_leaves_the_chunks_of_an_episode_that_is_over(contract):
    rig = Rig(contract, joining="ensemble")
    rig.arm_and_wait()
    for number in range(1, 13):
        positions = np.tile(rig.home, (30, 1))
        positions[:, 0] += 0.6 * (rig.now - 0.1 - rig.began_ns / 1e9 + (np.arange(30) + 1) / 30)
        assert rig.accept(rig.chunk(positions, number)) == ""
        rig.tick(8)
    rig.controller.hear_policy("process", "new", rig.steady)
    here = rig.controller.command.copy()
    assert rig.accept(rig.chunk(np.tile(here, (30, 1)), 13, episode_id="new")) == ""
    rig.tick(100)
    assert np.abs(np.array(rig.driver.sent[-100:])[:, 0] - here[0]).max() < 0.1


def test_feedback_that_repeats_itself_while_one_joint_alone_is_told_to_move_is_frozen_in_the_end(rig):
    follow(rig, lambda: len(rig.driver.sent) > 80, lambda: rig.sway(amplitude=0.17, speed=2.0))
    rig.driver.frozen = True
    follow(rig, lambda: rig.state == "FAULT", lambda: rig.sway(amplitude=0.17, speed=2.0))
    assert rig.controller.state.fault == Fault.STATE_FROZEN
