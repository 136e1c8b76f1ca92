# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the robot, its address or the options is named when the driver connects, and nothing moves."""

import dataclasses
import re

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.driver import DriverError
from franka_driver import session
from franka_driver.driver import create
from molmoact2_contract import Compliance


def refused(driver, words):
    with pytest.raises(DriverError, match=words):
        driver.connect()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("user_stop", "user stop is pressed.*release it"),
        ("brakes", "joints are locked.*open the brakes in Desk"),
        ("version 4", "speaks version 4 of the protocol, this driver 10; it is an older Panda: .*; update the Panda"),
        ("version 5", "speaks version 5 of the protocol, this driver 10; it is an older Panda: [^;]*panda_droid$"),
        ("version 9", "speaks version 9 of the protocol, this driver 10; update a Franka Research 3 to system 5.9"),
        ("version 11", "speaks version 11 of the protocol, this driver 10; it is newer than this driver"),
        ("hand unhomed", "does not know its range.*home_hand"),
    ],
)
def test_a_robot_that_cannot_be_moved_is_named(double, make_driver, fault, words):
    double.say(fault)
    refused(make_driver(double.host), words)
    seen = double.ask()
    assert not seen["moving"] and seen["hand"] == []


def test_a_robot_in_reflex_is_connected_to_and_recovers_when_an_operator_says_so(double, make_driver):
    double.say("reflex joint_reflex")
    driver = make_driver(double.host)
    driver.connect()
    with pytest.raises(DriverError, match="joint_reflex.*clear_fault"):
        driver.read()
    assert double.ask()["recoveries"] == 0
    driver.recover()
    driver.read()


def test_a_host_that_refuses_has_fci_off(make_driver):
    refused(make_driver("127.0.9.9"), "FCI is off.*activate FCI in Desk")


def test_a_host_that_nobody_knows_is_named(make_driver):
    refused(make_driver("no-such-robot.invalid"), "nobody knows the host 'no-such-robot.invalid'")


def test_a_second_client_is_told_that_another_may_be_connected(double, make_driver, monkeypatch):
    first = make_driver(double.host)
    first.connect()
    monkeypatch.setattr(session, "CONNECT_WITHIN", 1.0)
    refused(make_driver(double.host), "no other program is connected")
    first.read()


def test_a_robot_without_a_hand_is_named_where_the_contract_has_a_gripper(start_double, make_driver):
    bare = start_double("--no-hand")
    refused(make_driver(bare.host), "no hand that answers")


def test_without_realtime_the_driver_refuses_unless_told_to_ignore_it(double, make_driver, monkeypatch):
    def denied(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(session.os, "sched_setscheduler", denied)
    refused(make_driver(double.host, realtime="enforce"), "rtprio 99.*realtime=ignore")
    assert double.ask()["clients"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the option host"),
        ({"host": "a", "stifness": "1"}, "no option stifness; it has: host"),
        ({"host": "a", "realtime": "maybe"}, "one of enforce, ignore"),
        ({"host": "a", "torque_thresholds": "500"}, "torque_thresholds: no option, but the contract's"),
        ({"host": "a", "hand_force": "100"}, "from above 0 to 70"),
        ({"host": "a", "hand_force": "nan"}, "from above 0 to 70"),
        ({"host": "a", "hand_speed": "fast"}, "from above 0 to 0.1"),
        ({"host": "a", "hand_speed": "0"}, "from above 0 to 0.1"),
        ({"host": "a", "close_below": "0.7"}, "first must be the smaller"),
        ({"host": "a", "min_success_rate": "1.5"}, "from 0 to 1"),
    ],
)
def test_a_bad_option_is_named_with_what_is_allowed(contract, options, words):
    with pytest.raises(DriverError, match=re.escape(words)):
        create(contract, contract.arm("arm"), options)


GIVEN = Compliance(
    stiffness=(500.0, 500.0, 500.0, 500.0, 200.0, 100.0, 40.0),
    damping=(40.0, 40.0, 40.0, 40.0, 25.0, 20.0, 10.0),
    torque_thresholds=(11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0),
    force_thresholds=(21.0, 22.0, 23.0, 24.0, 25.0, 26.0),
)


@pytest.fixture
def compliant(double, contract):
    """A driver of an arm whose compliance is GIVEN, not connected."""
    arm = dataclasses.replace(contract.arm("arm"), compliance=GIVEN)
    driver = create(contract, arm, {"host": double.host, "realtime": "ignore"})
    yield driver
    driver.close()


def told(double):
    """Thresholds that the robot has, of torques and of forces; each is one list, whatever the phase of a motion."""
    seen = double.ask()["collision"]
    lists = [{tuple(values) for key, values in seen.items() if kind in key} for kind in ("torque", "force")]
    assert len(seen) == 8 and all(len(different) == 1 for different in lists), seen
    return [different.pop() for different in lists]


def test_the_robot_is_given_the_contracts_thresholds_when_it_is_connected_to_and_again_after_it_was_lost(
    double, compliant
):
    compliant.connect()
    assert told(double) == [GIVEN.torque_thresholds, GIVEN.force_thresholds]
    double.say("reset")
    wait_until(lambda: fails(compliant.read))
    assert double.ask()["collision"] == {}
    wait_until(lambda: not fails(compliant.recover))
    assert told(double) == [GIVEN.torque_thresholds, GIVEN.force_thresholds]


def test_a_robot_in_reflex_is_given_the_contracts_thresholds_when_it_has_recovered(double, compliant):
    double.say("reflex joint_reflex")
    compliant.connect()
    assert fails(compliant.read) and told(double) != [GIVEN.torque_thresholds, GIVEN.force_thresholds]
    compliant.recover()
    assert told(double) == [GIVEN.torque_thresholds, GIVEN.force_thresholds]


def test_a_robot_that_does_not_take_the_thresholds_is_named(double, make_driver):
    double.say("refuse on")
    refused(make_driver(double.host), "does not take thresholds of its collision reflex")
    double.say("user_stop")
    refused(make_driver(double.host), "user stop is pressed.*release it")


def test_the_arm_is_as_stiff_as_the_contract_says(double, compliant):
    """A hand's torque on a joint, over the way that it yields; the robot carries the arm's weight."""
    compliant.connect()
    here = compliant.read().positions
    sag = held_away(double, compliant, here, 0.0)
    given = held_away(double, compliant, here, 10.0) - sag
    assert 10.0 / given == pytest.approx(GIVEN.stiffness[0], rel=0.15)


def held_away(double, driver, goal, torque):
    """Where joint 1 comes to rest [rad] under a torque from outside [N m], with the goal sent meanwhile."""
    double.say(f"push 0 {torque}")
    last = []

    def rests():
        driver.write(goal)
        last.append(float(driver.read().positions[0]))
        return len(last) > 30 and np.ptp(last[-20:]) < 2e-4

    wait_until(rests)
    return last[-1]


def fails(call):
    try:
        call()
    except DriverError:
        return True
    return False


def test_a_contract_that_does_not_say_how_the_arm_yields_is_refused(contract):
    arm = dataclasses.replace(contract.arm("arm"), compliance=None)
    with pytest.raises(DriverError, match="'arm' has no compliance; give it stiffness.*franka_droid.yaml"):
        create(contract, arm, {"host": "127.0.0.1"})
