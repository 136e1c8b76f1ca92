# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver over real DDS, against a stand-in that refuses what a joint_trajectory_controller refuses."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from other_system import PATIENCE, OtherSystem, refused

from arm_controller.driver import DriverError
from molmoact2_contract import load_contract
from ros2_control_driver.driver import create

NAMES = ("a_pan", "a_lift", "a_elbow", "a_flex", "a_roll")
GRIPPER = {"gripper_joint": "a_grip", "gripper_closed": "0.8", "gripper_open": "0.0"}
LONG = 12.0    # [s]; a busy machine discovers slowly
SOON = 0.3     # [s] that all must be well, where nobody is there who should not be
OPTIONS = {"joints": ",".join(NAMES), "lead": "0.4", **GRIPPER}


@pytest.fixture(scope="module")
def contract():
    return load_contract("so101")


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "84")


@pytest.fixture
def apart(monkeypatch, request):
    """A domain for a test that kills a bridge, which the next test would still hear of."""
    monkeypatch.setenv("ROS_DOMAIN_ID", request.param)


@pytest.fixture
def make(contract):
    made = []

    def make_driver(patience=LONG, settled=SOON, **options):
        made.append(create(contract, contract.arm("arm"), {**OPTIONS, **options}, patience, settled))
        return made[-1]

    yield make_driver
    for driver in made:
        driver.close()


@pytest.fixture
def start():
    """Starts stand-ins; what a test leaves running is ended."""
    made = []

    def start_one(joints=(*NAMES, "a_grip"), *options):
        made.append(OtherSystem(joints, *options))
        return made[-1]

    yield start_one
    for system in made:
        system.close()


def until(what):
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def rests(system):
    before = system.positions()
    time.sleep(0.2)
    return system.positions() == before


def follow(driver, goal, until_there):
    deadline = time.monotonic() + PATIENCE
    while not until_there():
        assert time.monotonic() < deadline, "the arm did not come there"
        driver.write(goal)
        time.sleep(0.01)


def test_setpoints_arrive_as_trajectories_that_the_controller_takes_and_nothing_moves_before(start, make):
    system = start((*NAMES, "a_grip"), "--start", *["0.1"] * 5, "0.4")
    driver = make()
    driver.connect()
    assert driver.read().positions == pytest.approx([0.1] * 5 + [0.5])
    assert not any(line.startswith("took") for line in system.heard)
    goal = np.array([0.3, -0.2, 0.1, 0.1, 0.1, 1.0])
    follow(driver, goal, lambda: np.abs(driver.read().positions - goal).max() < 1e-3)
    assert system.positions() == pytest.approx([0.3, -0.2, 0.1, 0.1, 0.1, 0.0], abs=1e-3)
    assert any(line == "took 10" for line in system.heard)


def test_joints_are_matched_by_name_whatever_their_order(start, make):
    start(("a_grip", *reversed(NAMES)), "--start", "0.8", "5", "4", "3", "2", "1")
    driver = make()
    driver.connect()
    assert driver.read().positions == pytest.approx([1, 2, 3, 4, 5, 0])


def test_a_goal_that_comes_too_late_is_refused_by_the_controller(start, make):
    system = start()
    driver = make()
    driver.connect()
    system.say("stamp 2.0")    # as if the goal had been under way for two seconds
    driver.write(np.array([0.5, 0, 0, 0, 0, 0.5]))
    assert "in the past" in system.until("refused")
    assert max(abs(p) for p in system.positions()[:5]) < 1e-6


def test_stop_holds_where_the_arm_is(start, make):
    system = start()
    driver = make()
    driver.connect()
    goal = np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.5])
    follow(driver, goal, lambda: driver.read().positions[0] > 0.05)
    driver.stop()
    there = driver._measured.positions[0]    # what it read then
    until(lambda: system.positions()[0] == pytest.approx(there, abs=1e-6) and rests(system))
    assert system.positions()[0] == pytest.approx(there, abs=1e-6)


def test_signals_that_end_the_rest_leave_the_bridge_of_a_moving_arm_at_work(start, make):
    start()
    driver = make()
    driver.connect()
    goal = np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.5])
    follow(driver, goal, lambda: driver.read().positions[0] > 0.05)
    assert os.getsid(driver._bridge.pid) != os.getsid(0)    # a terminal's Ctrl-C does not reach it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(driver._bridge.pid, number)
    follow(driver, goal, lambda: np.abs(driver.read().positions - goal).max() < 1e-3)
    assert driver._bridge.poll() is None


def test_joint_states_that_cease_keep_their_stamp_so_that_the_controller_sees_them_age(start, make):
    system = start()
    driver = make()
    driver.connect()
    system.say("silence")
    until(lambda: time.time_ns() - driver.read().stamp_ns > 300_000_000)


def test_how_old_joint_states_are_and_what_became_of_setpoints_is_reported(start, make):
    start()
    driver = make()
    assert [reading.value for reading in driver.health()] == [0, 0]
    driver.connect()
    driver.write(driver.read().positions)
    told = {reading.name: reading for reading in driver.health()}
    assert told["setpoints handed over"].value == 1 and told["setpoints not taken"].value == 0
    assert told["age of joint states"].unit == "ms"


def test_another_system_that_ends_is_named_stays_so_and_is_found_again(start, make):
    system = start()
    driver = make()
    driver.connect()
    system.close()
    until(lambda: fails(driver))
    with pytest.raises(DriverError, match="no controller listens"):
        driver.write(np.zeros(6))
    start()
    until(lambda: recovers(driver))
    driver.read()


@pytest.mark.parametrize("apart", ["86"], indirect=True)
def test_a_bridge_that_is_killed_is_named_and_an_operator_starts_it_anew(apart, start, make):
    start()
    driver = make()
    driver.connect()
    os.kill(driver._bridge.pid, signal.SIGKILL)
    until(lambda: fails(driver))
    with pytest.raises(DriverError, match="bridge to ros2_control has ended"):
        driver.read()
    until(lambda: recovers(driver))
    driver.read()


@pytest.mark.parametrize("apart", ["87"], indirect=True)
def test_a_bridge_that_hangs_never_makes_the_setpoint_loop_wait(apart, start, make):
    start()
    driver = make()
    driver.connect()
    os.kill(driver._bridge.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + PATIENCE
        with pytest.raises(DriverError, match="takes no more goals"):    # said once its buffer is full, not waited for
            while time.monotonic() < deadline:
                driver.write(np.zeros(6))
    finally:
        os.kill(driver._bridge.pid, signal.SIGKILL)


def fails(driver):
    try:
        driver.read()
    except DriverError:
        return True
    return False


def recovers(driver):
    try:
        driver.recover()
    except DriverError:
        return False
    return True


def test_nobody_there_is_named(make):
    refused(make, "no controller listens on joint_trajectory_controller/joint_trajectory")


def test_a_joint_that_the_other_system_does_not_have_is_named(start, make):
    start(NAMES)
    refused(make, "says nothing of a_grip")


def test_clocks_that_differ_are_named(start, make):
    start().say("stamp 3.0")
    refused(make, "clocks of the two machines differ")


def test_a_second_program_that_moves_the_arm_is_named(start, make):
    start()
    first = make()
    first.connect()
    words = "another ros2_control_bridge also publishes on joint_trajectory_controller/joint_trajectory"
    refused(make, words, settled=LONG)
    first.read()


def test_our_own_joint_states_are_not_taken_for_the_other_systems(start, make):
    code = (
        "import rclpy, time; from sensor_msgs.msg import JointState; rclpy.init(); "
        "n = rclpy.create_node('arm_controller'); p = n.create_publisher(JointState, '/joint_states', 5); "
        "print('ready', flush=True); time.sleep(600)"
    )
    ours = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert ours.stdout.readline() == "ready\n"
        start()
        refused(make, re.escape("remap: {joint_states: molmoact2/joint_states}"), settled=LONG)
    finally:
        ours.kill()
        ours.wait()
        ours.stdout.close()


def test_a_driver_can_be_sent_to_another_process_before_it_connects(make):
    assert pickle.loads(pickle.dumps(make()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_setpoint_that_is_no_number_is_not_sent(start, make, bad):
    system = start()
    driver = make()
    driver.connect()
    with pytest.raises(DriverError, match="finite numbers; nothing sent"):
        driver.write(np.array([0, 0, bad, 0, 0, 0]))
    assert system.positions() == pytest.approx([0.0] * 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({**OPTIONS, "leed": "1"}, "no option leed; it has: controller"),
        ({**OPTIONS, "joints": "a,b"}, "names 2 joints; the contract's arm has 5"),
        ({**OPTIONS, "joints": "a,b,c,d,a"}, "named twice"),
        ({**OPTIONS, "lead": "3"}, "from 0.02 to 0.5"),
        ({**OPTIONS, "gripper_open": "wide"}, "option gripper_open is 'wide'; it must be a number"),
        ({**OPTIONS, "gripper_open": "0.8"}, "they must differ"),
        ({"joints": OPTIONS["joints"]}, "name its joint with the option gripper_joint"),
    ],
)
def test_a_bad_option_is_named_with_what_is_allowed(contract, options, words):
    with pytest.raises(DriverError, match=re.escape(words)):
        create(contract, contract.arm("arm"), options)
