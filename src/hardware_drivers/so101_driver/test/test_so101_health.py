# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a follower reports of itself: what its servos said with their last positions, at no cost on the bus."""

import pickle

import pytest
from arm_rig import fault, refusal, until

from arm_controller.health import Level, level
from so101_driver.calibration import MOTORS


def told(driver):
    return {reading.name: reading for reading in driver.health()}


def test_before_anything_is_connected_nothing_but_counts_is_reported(rig):
    assert [reading.unit for reading in rig.driver.health()] == [""] * 3


def test_every_servo_reports_temperature_voltage_current_and_load_and_asking_costs_the_bus_nothing(rig):
    rig.driver.connect()
    rig.driver.read()
    asked = len(rig.bus.instructions)
    readings = told(rig.driver)
    assert len(rig.bus.instructions) == asked
    for motor in MOTORS:
        units = {what: readings[f"{motor} {what}"].unit for what in ("temperature", "voltage", "current", "load")}
        assert units == {"temperature": "°C", "voltage": "V", "current": "A", "load": "%"}
    assert readings["bus cycle median"].value > 0 and readings["bus cycle p99"].unit == "ms"
    assert all(level(reading) == Level.OK for reading in readings.values())


def test_a_warm_servo_is_a_warning_and_at_its_stop_an_error_that_is_still_shown_in_fault(armed):
    armed.spoil("heat 3 63")
    armed.driver.read()
    warm = told(armed.driver)["elbow_flex temperature"]
    assert (warm.value, level(warm)) == (63.0, Level.WARN)
    armed.spoil("heat 3 68")
    assert "68 deg C" in fault(armed.driver)
    hot = told(armed.driver)["elbow_flex temperature"]
    assert (hot.value, level(hot)) == (68.0, Level.ERROR)


def test_a_supply_that_sags_is_a_warning_before_it_stops_the_arm(armed):
    armed.spoil("volts 1 4.5")
    armed.driver.read()
    low = told(armed.driver)["shoulder_pan voltage"]
    assert (low.value, level(low)) == (pytest.approx(4.5), Level.WARN)


def test_answers_that_had_to_be_asked_for_again_and_failures_are_counted_also_over_a_port_that_went(armed):
    armed.spoil("silent 2")
    assert refusal(armed.driver.read)
    lost = told(armed.driver)
    assert lost["questions asked again"].value >= 2 and lost["failed requests"].value == 1
    armed.spoil("ok")
    armed.spoil("silent 0")
    armed.spoil("unplug")
    fault(armed.driver)
    armed.spoil("replug")
    until(lambda: not refusal(armed.driver.read))
    after = told(armed.driver)
    assert after["questions asked again"].value >= lost["questions asked again"].value
    assert after["failed requests"].value >= 2


def test_a_driver_with_its_record_can_be_sent_to_the_setpoint_process(rig):
    assert pickle.loads(pickle.dumps(rig.new_driver())).health()
