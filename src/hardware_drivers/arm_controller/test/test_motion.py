# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What reaches the arm: within velocity, acceleration and jerk limits, smooth where chunks meet, never off the path."""

from dataclasses import replace

import numpy as np
import pytest
from servo_rig import Rig

from arm_controller.chunk import Refusal
from arm_controller.joining import Planned, cross_fade, ensemble, fresh_path
from arm_controller.pace import Entry, Limits, Pace
from arm_controller.path import Path

WIDE = (np.full(1, -9.0), np.full(1, 9.0))
# A path is entered only where a rehearsal of its setpoints asks for no more than that (pace.py, scheduler.py).
SLACK = {"velocity": 1.0 + 1e-6, "acceleration": 1.22, "jerk": 1.66}


def smooth(rng, positions):
    return positions


def offset(rng, positions):
    return positions + rng.normal(0, 0.03, (1, 6))


def jagged(rng, positions):
    return positions + rng.normal(0, 0.01, positions.shape)


def wandering(rng, positions):
    return positions + np.cumsum(rng.normal(0, 0.05, positions.shape), axis=0)


def run(contract, kind, ticks_per_chunk, joining="splice", chunks=12, age=0.1):
    """Setpoints (N, 6) of an arm that is sent one chunk every so many ticks, until it holds."""
    rig, rng = Rig(contract, joining=joining), np.random.default_rng(7)
    rig.arm_and_wait()
    for number in range(1, chunks):
        positions = np.clip(kind(rng, rig.sway(age=age)), rig.controller.gate.lower, rig.controller.gate.upper)
        rig.accept(rig.chunk(positions, number, age=age))
        rig.tick(ticks_per_chunk)
    rig.tick(200)
    assert rig.state == "HOLDING"
    return np.array(rig.driver.sent)


@pytest.mark.parametrize("joining", ["splice", "ensemble"])
@pytest.mark.parametrize("ticks_per_chunk", [7, 40, 85, 130])
@pytest.mark.parametrize("kind", [smooth, offset, jagged, wandering])
def test_setpoints_stay_within_every_limit_whatever_the_chunks_ask(contract, kind, ticks_per_chunk, joining):
    _within_limits(contract, run(contract, kind, ticks_per_chunk, joining))


def _within_limits(contract, setpoints):
    derivative = setpoints
    for name, slack in SLACK.items():
        derivative = np.diff(derivative, axis=0) * contract.setpoint_hz
        assert (np.abs(derivative).max(axis=0) <= slack * contract.values(name)).all(), name
    assert (setpoints >= contract.values("lower")).all() and (setpoints <= contract.values("upper")).all()


@pytest.mark.parametrize("joining", ["splice", "ensemble"])
@pytest.mark.parametrize("kind", [smooth, offset, jagged, wandering])
def test_setpoints_stay_within_every_limit_when_chunks_of_any_age_come_at_any_time(contract, kind, joining):
    rng, accepted, unjoined = np.random.default_rng(11), 0, 0
    for _ in range(6):
        rig = Rig(contract, joining=joining)
        rig.arm_and_wait()
        for number in range(1, 10):
            age = float(rng.uniform(0.02, 0.95))
            positions = kind(rng, rig.sway(age=age, amplitude=float(rng.uniform(0.1, 0.5))))
            positions = np.clip(positions, rig.controller.gate.lower, rig.controller.gate.upper)
            refused = rig.accept(rig.chunk(positions, number, age=age))
            accepted += not refused
            unjoined += bool(refused) and rig.controller.last.refusal == Refusal.PACE
            rig.tick(int(rng.integers(3, 110)))
        rig.tick(250)
        assert rig.state == "HOLDING"
        _within_limits(contract, np.array(rig.driver.sent))
    # Of 54; many are older than what runs, or come when an operator would have to resume.
    assert accepted > 18 and unjoined <= 2


@pytest.mark.parametrize("late_ms", [(10,), (13, 7), (19, 1), (19.8, 0.2), (25, 0.5), (40, 0.5)])
def test_a_chunk_is_joined_just_as_well_after_a_late_tick_and_the_short_one_that_follows(contract, late_ms):
    for ticks in range(30, 60, 3):
        rig = Rig(contract)
        rig.arm_and_wait()
        assert rig.accept(rig.chunk(rig.sway(amplitude=0.4), 1)) == ""
        rig.tick(ticks)
        for milliseconds in late_ms:
            rig.tick(1, round(1e6 * milliseconds))
        assert rig.accept(rig.chunk(rig.sway(amplitude=0.4), 2)) == ""


def test_chunks_that_agree_are_followed_at_the_clocks_pace(contract):
    rig = Rig(contract)
    rig.arm_and_wait()
    for number in range(1, 10):
        assert rig.accept(rig.chunk(rig.sway(speed=1.0), number)) == ""
        rig.tick(40)
    assert rig.controller.rate == 1.0 and rig.controller.lag == pytest.approx(0.0, abs=1e-6)


# --- path -------------------------------------------------------------------------------------------------------------
def test_a_path_goes_through_its_waypoints_with_continuous_velocity():
    rng = np.random.default_rng(0)
    times, waypoints = np.arange(20) / 30, rng.normal(0, 1, (20, 1))
    path = Path.through(times, waypoints, WIDE)
    assert path.sample(times) == pytest.approx(waypoints)
    inner = times[1:-1]
    assert path.sample(inner - 1e-7, 1) == pytest.approx(path.sample(inner + 1e-7, 1), rel=1e-3, abs=1e-3)


def test_smooth_motion_is_followed_closely_between_waypoints():
    times = np.arange(31) / 30
    path = Path.through(times, np.sin(3 * times)[:, None], WIDE)
    between = np.linspace(0.1, 0.9, 200)
    assert path.sample(between)[:, 0] == pytest.approx(np.sin(3 * between), abs=1e-4)
    assert path.sample(between, 1)[:, 0] == pytest.approx(3 * np.cos(3 * between), abs=5e-3)


def test_a_path_overshoots_no_limit_that_its_waypoints_keep():
    rng = np.random.default_rng(1)
    lower, upper = np.zeros(1), np.ones(1)
    for _ in range(200):
        waypoints = np.clip(rng.normal(0.5, 0.6, (12, 1)), 0, 1)
        path = Path.through(np.arange(12) / 30, waypoints, (lower, upper))
        inside = path.sample(np.linspace(0, path.end, 1000))
        assert inside.min() >= -1e-9 and inside.max() <= 1 + 1e-9


def test_a_path_is_at_rest_before_and_after_itself():
    path = Path.through(np.arange(5) / 30, np.arange(5.0)[:, None], WIDE)
    assert path.sample(-1.0) == pytest.approx([0.0]) and path.sample(9.0) == pytest.approx([4.0])
    assert path.sample(np.array([-1.0, 9.0]), 1) == pytest.approx(np.zeros((2, 1)))


def test_a_shifted_path_is_the_same_later():
    path = Path.through(np.arange(5) / 30, np.arange(5.0)[:, None] ** 2, WIDE)
    before = path.sample(0.07)
    path.shift(2.0)
    assert path.sample(2.07) == pytest.approx(before)


# --- joining ----------------------------------------------------------------------------------------------------------
def planned(start, value, slope=0.0, count=30):
    times = start + np.arange(count) / 30
    return Planned(times, (value + slope * (times - start))[:, None])


def test_a_cross_fade_steps_in_neither_position_velocity_nor_acceleration():
    old = Path.through(*vars(planned(0.0, 0.0, 0.5)).values(), WIDE)
    new = fresh_path(planned(0.1, 0.3, -0.4), planned(0.1, 0.3, -0.4).waypoints, 0.4, WIDE)
    path = cross_fade(old, 0.0, new, 0.4, 0.25)
    for order, fine in ((0, 1e-3), (1, 0.05), (2, 3.0)):
        assert path.sample(0.4 + 1e-6, order) == pytest.approx(old.sample(0.4, order), abs=fine)
        assert path.sample(0.65 + 1e-6, order) == pytest.approx(new.sample(0.65, order), abs=fine)
        values = path.sample(np.linspace(0.4, 0.9, 2000, endpoint=False), order)
        assert np.abs(np.diff(values, axis=0)).max() < fine


def test_a_path_that_lags_is_left_where_it_is_and_joined_at_the_clock():
    old = Path.through(*vars(planned(0.0, 0.0, 1.0)).values(), WIDE)
    new = Path.through(*vars(planned(0.2, 5.0)).values(), WIDE)
    path = cross_fade(old, 0.15, new, 0.5, 0.2)
    assert path.sample(0.5) == pytest.approx(old.sample(0.35))
    assert path.sample(0.7) == pytest.approx(new.sample(0.7))


def test_an_ensemble_is_the_weighted_mean_of_the_chunks_that_reach_a_moment():
    chunks = [planned(0.0, 0.0), planned(0.5, 1.0), planned(0.7, 4.0)]
    mean = ensemble(chunks, 0.7, WIDE)[:, 0]
    weights = np.exp(-0.01 * np.arange(3))
    assert mean[0] == pytest.approx(weights @ [0.0, 1.0, 4.0] / weights.sum())
    assert mean[-1] == pytest.approx(4.0)


def test_a_chunk_whose_first_waypoint_lies_ahead_is_entered_along_its_own_motion():
    chunk = planned(1.0, 0.0, slope=0.6)
    path = fresh_path(chunk, chunk.waypoints, 0.98, WIDE)
    assert path.sample(0.98) == pytest.approx([-0.012])
    assert path.sample(0.99, 1) == pytest.approx([0.6])


# --- pace -------------------------------------------------------------------------------------------------------------
LIMITS = Limits(np.ones(1), np.full(1, 10.0), np.full(1, 500.0), np.full(1, -9.0), np.full(1, 9.0), np.zeros(1))


def test_a_path_twice_too_fast_is_run_at_half_its_pace():
    path = Path.through(*vars(planned(0.0, 0.0, 2.0)).values(), WIDE)
    assert Pace(path, LIMITS, 0.01).ceiling(0.3) == pytest.approx(0.5)


def test_towards_a_position_limit_the_arm_slows_down_and_away_from_it_it_does_not():
    limits = replace(LIMITS, upper=np.full(1, 0.5), soft_zone=np.full(1, 0.2))
    towards = Path.through(*vars(planned(0.0, 0.0, 0.5)).values(), WIDE)
    away = Path.through(*vars(planned(0.0, 0.5, -0.5)).values(), WIDE)
    slowed = [Pace(towards, limits, 0.01).ceiling(t) for t in (0.2, 0.7, 0.9)]
    assert slowed[0] == 1.0
    assert slowed[2] * 0.5 == pytest.approx((0.5 - 0.45) / 0.2, rel=0.2)
    assert slowed[2] < slowed[1]
    assert Pace(away, limits, 0.01).ceiling(0.05) == 1.0


def test_the_rate_falls_to_nothing_at_the_end_and_early_enough():
    path = Path.through(*vars(planned(0.0, 0.0, 0.9)).values(), WIDE)
    pace = Pace(path, LIMITS, 0.01)
    assert pace.ceiling(path.end) == 0.0
    times = np.linspace(0.5, path.end, 400)
    rates = np.array([pace.ceiling(t) for t in times])
    braking = -np.diff(rates**2) / (2 * np.diff(times)) * 0.9    # of the arm [unit/s^2]
    assert braking.max() <= 10.0


def test_a_path_at_rest_may_be_run_at_full_pace_at_once():
    pace = Pace(Path(np.array([0.0, 1.0]), np.zeros((2, 1))), LIMITS, 0.01)
    assert pace.ceiling(0.2) == 1.0 and pace.excess(Entry(1.0, 0.0, np.zeros(1), np.zeros(1)), 0.01) == 0.0
