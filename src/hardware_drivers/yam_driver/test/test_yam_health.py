# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a YAM reports of itself: what its motors answered last, at no cost on the bus."""

from arm_controller.health import Level, level


def told(driver):
    return {reading.name: reading for reading in driver.health()}


def test_an_arm_that_is_not_connected_reports_nothing(double, make):
    assert make(double).health() == ()


def test_every_motor_reports_winding_electronics_and_torque_and_the_bus_its_cycle(driver, until):
    until(lambda: "bus cycle median" in told(driver))
    readings = told(driver)
    for joint in driver._arm.joints:
        assert readings[f"{joint} winding temperature"].value == 30.0
        assert readings[f"{joint} electronics temperature"].unit == "°C"
        assert readings[f"{joint} torque"].unit == "N m"
    assert readings["bus cycle median"].value > 0 and readings["questions asked again"].value == 0
    assert all(level(reading) == Level.OK for reading in readings.values())


def test_a_warm_motor_is_a_warning_and_one_at_its_stop_an_error(double, on, until):
    double.motor(3).mos = 62.0
    until(lambda: level(told(on)["left_joint_2 electronics temperature"]) == Level.WARN)
    double.motor(3).mos = 71.0
    until(lambda: level(told(on)["left_joint_2 electronics temperature"]) == Level.ERROR)


def test_a_motor_that_does_not_answer_is_counted(double, on, until):
    double.motor(6).plugged = False
    until(lambda: told(on)["questions without an answer"].value > 0)
    assert told(on)["questions asked again"].value > 0
