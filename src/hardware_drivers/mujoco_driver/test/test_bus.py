# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import contextlib
import socket
import time

import numpy as np
import pytest
from watcher import wait_until

from arm_controller.driver import DriverError
from mujoco_driver.bus import HEADER, MAGIC, WRITE, BusClient, BusError
from mujoco_driver.bus_server import BusServer
from mujoco_driver.driver import create


def test_the_bus_names_its_servos_and_their_ranges(client, world):
    assert client.identify() == world.servos
    assert [s.name for s in world.servos][-1] == "gripper"


def test_reading_gives_positions_and_a_capture_time_that_goes_on(client):
    first, positions = client.read()
    assert len(positions) == 6 and np.isfinite(positions).all()
    wait_until(lambda: client.read()[0] > first, "the world stands still")


def test_the_whole_world_can_be_seen_over_the_bus(client, world):
    seen = client.state()
    assert (seen.scene, seen.seed) == ("so101_tabletop", 1)
    assert len(seen.qpos) == world.scene.model.nq
    wait_until(lambda: client.state().stamp_ns > seen.stamp_ns, "the world stands still")
    world.reset()
    assert client.state().seed == 2
    assert np.abs(client.state().qpos - seen.qpos).max() > 0.01


def test_a_servo_goes_where_it_is_told(driver, contract):
    goal = contract.values("home") + np.array([0.4, 0.1, -0.1, 0.0, 0.3, 0.5])
    driver.write(goal)
    wait_until(lambda: np.abs(driver.read().positions - goal).max() < 0.05, "the arm did not reach its goal")


def test_a_servo_keeps_its_last_goal_when_the_controller_dies(bus, driver, world, contract):
    goal = contract.values("home") + np.array([0.3, 0, 0, 0, 0, 0])
    driver.write(goal)
    driver.close()
    wait_until(lambda: abs(world.read()[1][0] - 0.3) < 0.03, "the servo forgot its goal")


def test_stop_holds_where_the_arm_is(driver, world, contract):
    driver.write(contract.values("home") + np.array([1.0, 0, 0, 0, 0, 0]))
    wait_until(lambda: world.read()[1][0] > 0.1, "the arm does not move")
    driver.stop()
    stopped = driver.read().positions[0]
    time.sleep(0.5)
    assert driver.read().positions[0] - stopped < 0.15


def test_stop_keeps_what_the_gripper_was_told(driver, world, contract):
    goal = contract.values("home")
    goal[5] = 0.9 if goal[5] < 0.5 else 0.1
    driver.write(goal)
    driver.stop()
    assert driver.held()[5] == goal[5]
    wait_until(lambda: abs(driver.read().positions[5] - goal[5]) < 0.05, "the gripper did not go on")
    driver.guide()
    assert driver.held() is None and not driver.real


def test_a_second_writer_is_refused_until_the_first_leaves(bus, driver, client, contract):
    driver.write(contract.values("home"))
    with pytest.raises(BusError, match="another connection"):
        client.write([(0, 0.1)])
    driver.close()

    def free():
        try:
            client.write([(0, 0.1)])
        except BusError:
            return False
        return True

    wait_until(free, "the servo stayed taken")


def test_two_controllers_share_a_world_when_they_move_different_servos(bus, client):
    other = BusClient(bus.address, timeout=2.0)
    client.write([(0, 0.1)])
    other.write([(5, 0.2)])
    other.close()


@pytest.mark.parametrize(
    ("goals", "named"),
    [
        ([(0, 99.0)], "outside"),
        ([(0, float("nan"))], "outside"),
        ([(17, 0.0)], "servo 17 is not there"),
        ([], "whole number"),
    ],
)
def test_an_impossible_goal_is_refused_by_name_and_nothing_moves(client, world, goals, named):
    before = world._data.ctrl.copy()
    with pytest.raises(BusError, match=named):
        client.write(goals)
    assert (world._data.ctrl == before).all()


@pytest.mark.parametrize("frame", [b"garbage" * 3, b"\0" * 64, HEADER.pack(MAGIC, WRITE, 9)[:4]])
def test_a_malformed_frame_ends_that_connection_and_not_the_world(bus, client, frame):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
        rude.connect(bus.address)
        rude.sendall(frame)
        rude.shutdown(socket.SHUT_WR)
        rude.settimeout(5)
        with contextlib.suppress(ConnectionResetError):    # where the world closed with bytes unread
            assert rude.recv(100) == b""
    assert len(client.identify()) == 6


def test_a_world_that_is_not_there_is_named(contract, tmp_path):
    from mujoco_driver.driver import MujocoArmDriver

    driver = MujocoArmDriver(contract, contract.arm("arm"), str(tmp_path / "nothing.sock"), patience=0.0)
    with pytest.raises(DriverError, match="no simulated world at .*nothing.sock"):
        driver.connect()


def test_a_world_that_went_away_is_an_error_and_not_a_frozen_state(bus, driver):
    driver.read()
    bus.close()
    with pytest.raises(DriverError, match="simulated world"):
        for _ in range(3):
            driver.read()


def test_the_driver_finds_a_world_that_was_started_anew(bus, world, driver):
    bus.close()
    with pytest.raises(DriverError):
        driver.read()
    again = BusServer(world, bus.address, lambda line: None)
    assert np.isfinite(driver.read().positions).all()
    again.close()


def test_a_second_world_on_the_same_socket_is_refused(bus, world):
    with pytest.raises(BusError, match="another world serves"):
        BusServer(world, bus.address, print)


def test_an_unknown_driver_option_is_named(contract):
    with pytest.raises(DriverError, match="no option adress"):
        create(contract, contract.arm("arm"), {"adress": "x"})


def test_units_survive_the_way_to_the_servos_and_back(driver, contract):
    random = np.random.default_rng(0)
    for _ in range(100):
        ros = random.uniform(contract.values("lower"), contract.values("upper"))
        assert np.allclose(driver.to_ros(driver.to_device(ros)), ros)
    closed = contract.values("home")
    closed[5] = 0.0
    assert driver.to_device(closed)[5] == pytest.approx(-0.1745, abs=1e-3)
    closed[5] = 1.0
    assert driver.to_device(closed)[5] == pytest.approx(1.7453, abs=1e-3)


def test_the_driver_reports_the_cycle_of_its_bus_and_readings_that_failed(bus, driver):
    driver.read()
    readings = {reading.name: reading for reading in driver.health()}
    assert readings["bus cycle median"].value > 0 and readings["failed readings"].value == 0
    bus.close()
    with pytest.raises(DriverError):
        driver.read()
    assert {reading.name: reading.value for reading in driver.health()}["failed readings"] == 1
