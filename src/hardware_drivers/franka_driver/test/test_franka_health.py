# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a Franka reports of itself, made of the states that come anyway."""

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.driver import DriverError
from arm_controller.health import Level, level
from franka_driver.words import tells_reflex


def told(driver):
    return {reading.name: reading for reading in driver.health()}


def test_at_rest_there_are_torques_from_outside_and_the_age_of_the_state_and_no_share_of_commands(driver):
    driver.read()
    readings = told(driver)
    assert {f"joint {joint} torque from outside" for joint in range(1, 8)} <= set(readings)
    assert readings["age of state"].unit == "ms" and readings["age of state"].value >= 0
    assert "commands in time" not in readings and readings["reflexes"].value == 0


def test_commands_that_reach_the_robot_too_late_are_a_warning_before_they_stop_it(driver, double):
    goal = driver.read().positions

    def shares():
        driver.write(goal)
        driver.read()
        return told(driver).get("commands in time")

    wait_until(lambda: shares() is not None and level(shares()) == Level.OK)
    double.say("rate 0.85")
    wait_until(lambda: level(shares()) == Level.WARN)
    assert shares().value == pytest.approx(85.0)


def test_a_reflex_is_counted_and_how_long_ago_it_was_is_told(driver, double):
    goal = driver.read().positions
    for _ in range(5):
        driver.write(goal)
        driver.read()
    double.say("reflex joint_reflex")

    def stopped():
        try:
            driver.write(goal)
            driver.read()
        except DriverError as error:
            if tells_reflex(str(error)):
                return True
            driver.recover()    # a busy machine's lateness
        return False

    wait_until(stopped)
    readings = told(driver)
    assert readings["reflexes"].value == 1 and readings["failures"].value >= 1
    assert readings["time since the last reflex"].value >= 0
    driver.recover()
    assert np.isfinite(driver.read().positions).all() and told(driver)["reflexes"].value == 1
