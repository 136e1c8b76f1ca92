# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the fault campaign's judge lets pass, and what it does not."""

from pathlib import Path

import numpy as np
import pytest

from molmoact2_bringup.faults.judgement import BUS_SPAN, LATE, Judge, Trace
from molmoact2_bringup.faults.reasons import Late
from molmoact2_contract import load_contract

CONTRACT = load_contract(Path(__file__).parents[3] / "config/embodiments/so101.yaml")
ARM = CONTRACT.arm("arm")
HOME = CONTRACT.values("home")
LONG_AFTER = 1e6
JUDGE = Judge(CONTRACT, ARM)


def pan(angle, seconds=1.5, step=0.01) -> Trace:
    """The first joint at angle(t), the others at home."""
    times = np.arange(0, seconds, step)
    positions = np.tile(HOME, (len(times), 1))
    positions[:, 0] += np.array([angle(t) for t in times])
    return Trace(100.0 + times, positions)


def ramp(t):
    """Up to 1 rad/s and back to rest at 8 rad/s^2."""
    speed, rate = 1.0, 8.0
    up = speed / rate
    t = min(t, 1.0 + up)
    return rate * min(t, up) ** 2 / 2 + speed * max(t - up, 0) - rate * max(t - 1.0, 0) ** 2 / 2


def test_a_ramp_from_rest_to_rest_keeps_every_promise():
    assert JUDGE.arm(pan(ramp)) == ""
    assert JUDGE.setpoints(pan(ramp), LONG_AFTER, cut_off=False) == ""


def test_setpoints_that_arrive_at_scattered_times_are_not_blamed_for_it():
    even = pan(ramp)
    scattered = Trace(even.times + np.random.default_rng(0).uniform(0, 0.003, len(even.times)), even.positions)
    assert JUDGE.setpoints(scattered, LONG_AFTER, cut_off=False) == ""


@pytest.mark.parametrize(
    ("angle", "named"),
    [
        (lambda t: 1.5 * min(t, 0.5), "was told to change its speed by"),    # stops dead
        (lambda t: 0.02 * (int(t / 0.05) % 2), "was told to change its speed by"),    # shakes
        (lambda t: 3.0 * t, "outside its position limits"),
        (lambda t: 2.6 * t if t < 0.5 else 1.3, "was told to move at"),
    ],
)
def test_setpoints_that_break_a_promise_are_named(angle, named):
    assert named in JUDGE.setpoints(pan(angle), LONG_AFTER, cut_off=True)


def test_only_what_is_told_by_times_of_arrival_may_be_for_lateness():
    dead_stop, too_far = pan(lambda t: 1.5 * min(t, 0.5)), pan(lambda t: 3.0 * t)
    assert isinstance(JUDGE.setpoints(dead_stop, LONG_AFTER, cut_off=True), Late)
    assert not isinstance(JUDGE.setpoints(too_far, LONG_AFTER, cut_off=True), Late)
    too_fast = JUDGE.arm(pan(lambda t: 2.8 * t if t < 0.4 else 1.12))    # by the world's own clock
    assert too_fast and not isinstance(too_fast, Late)


def test_where_a_bus_stalls_changes_of_speed_are_not_told_from_arrivals_but_speeds_limits_and_ends_are():
    judge = Judge(CONTRACT, ARM, BUS_SPAN)
    stalled = pan(ramp)
    times = np.where((stalled.times > 100.5) & (stalled.times < 100.53), 100.53, stalled.times)
    assert JUDGE.setpoints(Trace(times, stalled.positions), LONG_AFTER, cut_off=False) != ""
    assert judge.setpoints(Trace(times, stalled.positions), LONG_AFTER, cut_off=False, timely=False) == ""
    fast, far = pan(lambda t: 2.6 * t if t < 0.5 else 1.3), pan(lambda t: 3.0 * t)
    assert "was told to move at" in judge.setpoints(fast, LONG_AFTER, True, timely=False)
    assert "outside its position limits" in judge.setpoints(far, LONG_AFTER, True, timely=False)
    moving = pan(lambda t: ramp(min(t, 0.8)), seconds=0.8)
    assert "was given its last setpoint at" in judge.setpoints(moving, LONG_AFTER, False, timely=False)


def test_behind_a_bus_that_takes_its_time_a_stop_between_two_setpoints_is_named_and_a_ramp_is_not():
    """The goals of 100 setpoints a second as motors hear them that are commanded 250 times a second: in steps, late."""
    judge, late = Judge(CONTRACT, ARM, BUS_SPAN), np.random.default_rng(0).uniform(0, 0.004, 150)

    def heard(angle):
        even = pan(angle)
        return Trace(even.times + late, even.positions)

    assert judge.setpoints(heard(ramp), LONG_AFTER, cut_off=False) == ""
    assert "change its speed" in judge.setpoints(heard(lambda t: 1.4 * ramp(min(t, 0.8))), LONG_AFTER, cut_off=False)


def test_what_a_computer_that_stood_still_has_delayed_is_no_change_of_speed_and_a_stop_away_from_it_is():
    judge = Judge(CONTRACT, ARM, BUS_SPAN, late=LATE)

    def delayed(angle):
        even = pan(lambda t: 1.4 * angle(t))
        return Trace(np.where((even.times > 100.301) & (even.times < 100.339), 100.34, even.times), even.positions)

    steady, stops = delayed(lambda t: ramp(min(t, 0.8)) if t < 0.8 else 1.0), delayed(lambda t: ramp(min(t, 0.8)))
    assert "change its speed" in Judge(CONTRACT, ARM, BUS_SPAN).setpoints(steady[:60], LONG_AFTER, True)
    assert judge.setpoints(steady[:60], LONG_AFTER, cut_off=True) == ""
    assert "change its speed" in judge.setpoints(stops, LONG_AFTER, cut_off=True)


def test_an_arm_that_brakes_harder_than_its_setpoints_may_is_named_where_it_is_judged_by_that():
    judge = Judge(CONTRACT, ARM, BUS_SPAN)
    dead = pan(lambda t: ramp(min(t, 0.8)) * 1.4)
    assert judge.arm(dead) == "" and judge.arm(pan(ramp), braking=True) == ""
    assert "changed its speed by" in judge.arm(dead, braking=True)


def test_setpoints_that_end_at_speed_are_named_unless_they_could_not_but_end():
    moving = pan(lambda t: ramp(min(t, 0.8)), seconds=0.8)
    assert "was given its last setpoint at 1.00" in JUDGE.setpoints(moving, LONG_AFTER, cut_off=False)
    assert JUDGE.setpoints(moving, LONG_AFTER, cut_off=True) == ""
    assert JUDGE.setpoints(moving, moving.times[-1] + 0.02, cut_off=False) == ""    # they may go on


def test_a_gap_at_speed_is_an_end_at_speed():
    moving = pan(lambda t: ramp(min(t, 0.8)), seconds=0.8)
    rest = pan(lambda t: ramp(0.8), seconds=0.5)
    both = Trace(np.append(moving.times, rest.times + 2), np.concatenate([moving.positions, rest.positions]))
    assert "last setpoint" in JUDGE.setpoints(both, LONG_AFTER, cut_off=False)


def test_an_arm_outside_its_limits_or_its_workspace_is_named():
    assert "left its position limits" in JUDGE.arm(pan(lambda t: 1.9199 + 0.2))
    below = HOME + np.array([0, 1.4, 0.3, -0.7, 0, 0])
    assert ARM.depths(below).max() > 0.035
    resting = Trace(np.arange(10) * 0.01, np.tile(below, (10, 1)))
    assert "left its workspace" in JUDGE.arm(resting)
    assert "a setpoint left the workspace" in JUDGE.setpoints(resting, LONG_AFTER, cut_off=False)
