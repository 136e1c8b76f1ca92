# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The power of a robot fails and comes back, against the double."""

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.driver import DriverError


def refusal(call):
    with pytest.raises(DriverError) as refused:
        call()
    return str(refused.value)


def recovered(driver):
    """What the driver says when an operator asks it to recover, once it has tried; empty where it is ready."""
    said = []

    def tried():
        try:
            driver.recover()
            said.append("")
        except DriverError as error:
            said.append(str(error))
        return "ask again" not in said[-1]

    wait_until(tried)
    return said[-1]


def power_fails_and_comes_back(driver, double):
    """What is said meanwhile is what an operator needs, and the arm stays still."""
    there = driver.read().positions
    driver.write(there)
    wait_until(lambda: double.ask()["moving"])
    double.say("power off")
    said = []

    def fails():
        try:
            driver.read()
        except DriverError as error:
            said.append(str(error))
        return bool(said)

    wait_until(fails)
    assert "robot at" in said[0] and double.host in said[0]
    assert "refuses connections" in recovered(driver)
    double.say("power on")
    assert "joints are locked" in recovered(driver)
    double.say("release")
    assert recovered(driver) == ""
    assert np.abs(driver.read().positions - there).max() < 0.02
    assert not double.ask()["moving"]


def test_a_robot_whose_power_fails_is_named_refuses_connections_and_stays_still_when_it_is_back(driver, double):
    power_fails_and_comes_back(driver, double)


def test_a_double_that_is_told_to_be_well_has_its_power_again(double, make_driver):
    double.say("power off")
    double.say("power off")
    assert "refuses connections" in refusal(make_driver(double.host).connect)
    double.say("ok")
    make_driver(double.host).connect()
