# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""When chunks come later than motion can wait for them: L from capture to arrival, H the length of a chunk, one at a
time. Motion can be continuous while 2 L <= H; beyond that the least loss is max(0, 2 L - H) / L."""

import numpy as np
import pytest
from servo_rig import Rig

from arm_controller.arrivals import Arrivals

H = 1.0


def run(contract, when_late, latency, chunks=14, settled=4, speed=1.0, jitter=0.0):
    """Rates of path time and setpoints at each tick, from chunk `settled` on. speed: of the sway [rad/s]; jitter:
    largest share by which each latency is off, either way."""
    rig, rates, mark = Rig(contract, when_late=when_late), [], 0
    rng = np.random.default_rng(3)
    rig.arm_and_wait()
    for number in range(1, chunks):
        captured, positions = rig.now, rig.sway(speed=speed, age=0.0)
        takes = latency * (1 + jitter * rng.uniform(-1, 1))
        while rig.now < captured + takes:
            rig.tick()
            rates.append(rig.controller.rate)
        assert rig.accept(rig.chunk(positions, number, age=rig.now - captured)) == ""
        if number == settled:
            mark = len(rig.driver.sent)
            rates.clear()
    return np.array(rates), np.array(rig.driver.sent[mark:])


@pytest.mark.parametrize("when_late", ["hold", "slow"])
@pytest.mark.parametrize("latency", [0.1, 0.2, 0.35])
def test_while_chunks_come_in_time_motion_never_slows(contract, when_late, latency):
    rates, _ = run(contract, when_late, latency)
    assert (rates == 1.0).all()


@pytest.mark.parametrize("latency", [0.6, 0.8])
def test_hold_stands_still_for_the_bounds_share_and_no_more(contract, latency):
    rates, _ = run(contract, "hold", latency)
    bound = (2 * latency - H) / latency
    assert 0 < (rates < 1e-3).mean() <= bound
    assert 1 - rates.mean() == pytest.approx(bound, abs=0.05)


@pytest.mark.parametrize("latency", [0.6, 0.8])
def test_slow_never_stands_still(contract, latency):
    rates, setpoints = run(contract, "slow", latency)
    assert rates.min() > 0.02
    assert (np.abs(np.diff(setpoints[:, 0])) > 0).mean() > 0.98
    assert 1 - rates.mean() <= (2 * latency - H) / latency + 0.03


@pytest.mark.parametrize("latency", [0.4, 0.45])
def test_slow_loses_nothing_that_hold_does_not_while_chunks_come_in_time(contract, latency):
    (slow, _), (hold, _) = (run(contract, when_late, latency) for when_late in ("slow", "hold"))
    assert (slow == hold).all()


@pytest.mark.parametrize("latency", [0.45, 0.6, 0.8])
def test_slow_moves_on_within_every_limit_while_latencies_scatter_by_a_fifth(contract, latency):
    rates, derivative = run(contract, "slow", latency, chunks=40, speed=0.6, jitter=0.2)
    assert rates.min() > 0.01
    # By the bound, and by what planning for the longest of the recent intervals costs.
    assert 1 - rates.mean() <= max(0.0, 2 * latency - H) / latency + 0.15
    for name, slack in (("velocity", 1.0), ("acceleration", 1.15), ("jerk", 1.6)):
        derivative = np.diff(derivative, axis=0) * contract.setpoint_hz
        assert (np.abs(derivative).max(axis=0) <= slack * contract.values(name) + 1e-6).all(), name


@pytest.mark.parametrize("when_late", ["hold", "slow"])
@pytest.mark.parametrize("latency", [0.45, 0.6, 0.8])
def test_late_chunks_are_left_and_joined_within_every_limit(contract, when_late, latency):
    _, derivative = run(contract, when_late, latency)
    for name, slack in (("velocity", 1.0), ("acceleration", 1.1), ("jerk", 1.1)):
        derivative = np.diff(derivative, axis=0) * contract.setpoint_hz
        assert (np.abs(derivative).max(axis=0) <= slack * contract.values(name) + 1e-6).all(), name


def test_the_next_chunk_is_expected_after_the_longest_recent_interval():
    arrivals = Arrivals()
    assert arrivals.rate(0.2, 0.0) == 1.0
    for now in (0.0, 0.5, 1.3, 1.8):
        arrivals.add(now, 0.4)
    assert arrivals.rate(0.4, 1.8) == pytest.approx(0.5)
    assert arrivals.rate(9.0, 1.8) == 1.0


def test_until_an_interval_is_known_the_latency_stands_in_for_it_and_no_longer():
    arrivals = Arrivals()
    arrivals.add(0.0, 0.8)
    assert arrivals.rate(0.2, 0.0) == pytest.approx(0.25)
    arrivals.add(0.4, 0.8)
    assert arrivals.rate(0.2, 0.4) == pytest.approx(0.5)


def test_a_chunk_that_does_not_come_is_waited_for_ever_more_slowly():
    arrivals = Arrivals()
    for now in (0.0, 1.0):
        arrivals.add(now, 0.4)
    rates = [arrivals.rate(left, 5.0) for left in (0.4, 0.2, 0.1, 0.01)]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0


def test_a_pause_of_the_stream_is_no_interval():
    arrivals = Arrivals()
    for now in (0.0, 1.0):
        arrivals.add(now, 0.4)
    arrivals.pause()
    arrivals.add(60.0, 0.4)
    assert arrivals.rate(0.5, 60.0) == pytest.approx(0.5)


@pytest.mark.parametrize("latency", [0.40, 0.45])
def test_chunks_that_agree_are_joined_without_slowing_while_two_latencies_fit_into_a_chunk(contract, latency):
    rates, _ = run(contract, "hold", latency)
    assert rates.min() > 0.9


def test_a_slowed_path_whose_policy_ends_says_that_no_chunk_came(contract):
    rig = Rig(contract, when_late="slow")
    rig.arm_and_wait()
    for number in range(1, 5):
        captured, positions = rig.now, rig.sway(speed=1.0, age=0.0)
        while rig.now < captured + 0.6:
            rig.tick()
        assert rig.accept(rig.chunk(positions, number, age=rig.now - captured)) == ""
    rig.tick(1000)
    assert rig.state == "HOLDING"
    assert "no chunk came" in rig.controller.reason or "ran out of waypoints" in rig.controller.reason
    assert rig.controller.state.needs_resume == ""


def test_a_pause_by_the_operator_is_no_interval_between_chunks(contract):
    rig = Rig(contract, when_late="slow")
    rig.arm_and_wait()
    rig.accept(rig.chunk(rig.sway(speed=1.0), 1))
    rig.tick(20)
    rig.operator.stop()
    rig.tick(2000)
    rig.operator.resume()
    rig.tick(30)
    positions = np.tile(rig.driver.sent[-1], (30, 1))
    for number in range(2, 6):
        assert rig.accept(rig.chunk(positions, number)) == ""
        rig.tick(30)
    assert rig.controller.rate > 0.9


def test_a_stamp_of_a_clock_slightly_ahead_does_not_stand_still(contract):
    rig = Rig(contract, when_late="slow")
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway(speed=1.0, age=-0.03), 1, age=-0.03)) == ""
    rig.tick(40)
    assert rig.controller.rate > 0.5
