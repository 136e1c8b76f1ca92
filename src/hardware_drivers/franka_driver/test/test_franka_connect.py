# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the robot, its address or the options is named when the driver connects, and nothing moves."""

import re

import pytest

from arm_controller.driver import DriverError
from franka_driver import session
from franka_driver.driver import create


def refused(driver, words):
    with pytest.raises(DriverError, match=words):
        driver.connect()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("user_stop", "user stop is pressed.*release it"),
        ("brakes", "joints are locked.*open the brakes in Desk"),
        ("version 5", "speaks version 5 of the protocol, this driver 10.*older Panda"),
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
        ({"host": "a", "stiffness": "600,600"}, "one number, or 7"),
        ({"host": "a", "stiffness": "nan"}, "from above 0 to 1500"),
        ({"host": "a", "damping": "-1"}, "damping"),
        ({"host": "a", "torque_thresholds": "500"}, "from above 0 to 87"),
        ({"host": "a", "force_thresholds": "1,2,3,4,5,six"}, "force_thresholds"),
        ({"host": "a", "hand_force": "100"}, "from above 0 to 70"),
        ({"host": "a", "close_below": "0.7"}, "first must be the smaller"),
        ({"host": "a", "min_success_rate": "1.5"}, "from 0 to 1"),
    ],
)
def test_a_bad_option_is_named_with_what_is_allowed(contract, options, words):
    with pytest.raises(DriverError, match=re.escape(words)):
        create(contract, contract.arm("arm"), options)
