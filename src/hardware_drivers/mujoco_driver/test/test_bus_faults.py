# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of joint states, as a controller's driver meets them over the bus."""

import numpy as np
import pytest
from watcher import wait_until

from arm_controller.driver import DriverError
from mujoco_driver.bus import BusClient, BusError


def advanced(client, reading, count=50):
    """Waits until the world itself has gone on by some states since a reading."""
    wait_until(lambda: client.state().stamp_ns > reading.stamp_ns + count * 10_000_000, "the world stands still")


def test_a_silent_bus_is_an_error_of_the_driver_and_a_mended_one_is_found_again(bus, driver):
    bus.set_fault("silent")
    with pytest.raises(DriverError, match="does not answer"):
        driver.read()
    bus.set_fault("ok")
    assert np.isfinite(driver.read().positions).all()


def test_a_silent_bus_still_takes_goals(bus, client, world):
    bus.set_fault("silent")
    client.write([(0, 0.3)])
    wait_until(lambda: abs(world.read()[1][0] - 0.3) < 0.03, "the servo did not take its goal")


def test_frozen_positions_repeat_while_stamps_go_on_and_the_arm_moves(bus, driver, client, contract):
    bus.set_fault("frozen")
    first = driver.read()
    driver.write(contract.values("home") + np.array([0.5, 0, 0, 0, 0, 0]))
    advanced(client, first)
    later = driver.read()
    assert (later.positions == first.positions).all() and later.stamp_ns > first.stamp_ns
    bus.set_fault("ok")
    assert driver.read().positions[0] > 0.1


def test_a_stale_bus_repeats_positions_and_stamps(bus, driver, client, contract):
    bus.set_fault("stale")
    first = driver.read()
    driver.write(contract.values("home") + np.array([0.5, 0, 0, 0, 0, 0]))
    advanced(client, first)
    later = driver.read()
    assert (later.positions == first.positions).all() and later.stamp_ns == first.stamp_ns


def test_one_position_is_not_a_number(bus, driver):
    bus.set_fault("nan")
    positions = driver.read().positions
    assert np.isnan(positions[0]) and np.isfinite(positions[1:]).all()


def test_one_position_leaps_by_a_radian_in_a_reading_and_back(bus, driver):
    before = driver.read().positions
    bus.set_fault("jump")
    leapt, back = driver.read().positions, driver.read().positions
    assert leapt[0] - before[0] == pytest.approx(1.0, abs=0.05) and np.abs(leapt[1:] - before[1:]).max() < 0.05
    assert np.abs(back - before).max() < 0.05
    assert max(driver.read().positions[0] - before[0] for _ in range(10)) > 0.9, "it does not leap again"


def test_what_is_sound_stays_sound_in_the_world_itself(bus, client, world):
    bus.set_fault("nan")
    client.read()
    assert np.isfinite(world.read()[1]).all() and np.isfinite(client.state().qpos).all()


def test_an_unknown_fault_is_refused_and_the_one_that_was_set_stays(bus, driver):
    bus.set_fault("nan")
    with pytest.raises(ValueError, match="'purple' is not there; there are: ok, silent, frozen, stale, nan, jump"):
        bus.set_fault("purple")
    assert np.isnan(driver.read().positions[0])


def test_a_reading_that_is_not_answered_leaves_other_connections_alone(bus, client):
    other = BusClient(bus.address, timeout=0.2)
    bus.set_fault("silent")
    with pytest.raises(BusError, match="does not answer"):
        other.read()
    assert len(client.identify()) == 6
