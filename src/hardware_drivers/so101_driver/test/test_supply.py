# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The supply is judged by what each servo says that it needs: an arm on the 5 V that the makers list is a sound arm."""

import pytest
from arm_rig import fault, refusal, until
from test_commands import MIDDLE, SWEEP, Person, arguments

from arm_controller.health import Level, level
from molmoact2_contract.cli import main
from so101_driver import tools
from so101_driver.calibration import MOTORS
from so101_driver.leader import LeaderArm
from so101_driver.registers import MAX_VOLTAGE, MIN_VOLTAGE


@pytest.fixture
def on_5_volts(rig):
    """The double of an arm of 7.4 V servos on the makers' 5 V supply, not connected yet."""
    for servo in rig.bus.servos:
        servo.voltage = 5.0
    return rig


def burn(rig, register, volts):
    for servo in rig.bus.servos:
        servo.burn(register, round(10 * volts))


def test_a_follower_on_5_volts_connects_is_armed_moves_and_shows_nothing_out_of_the_ordinary(on_5_volts):
    driver = on_5_volts.driver
    driver.connect()
    at = driver.read().positions
    driver.write(at)
    goal = at.copy()
    goal[0] += 0.15
    assert on_5_volts.go(goal)[0] == pytest.approx(goal[0], abs=0.01)
    assert all(level(reading) == Level.OK for reading in driver.health())


def test_a_leader_on_5_volts_leads(on_5_volts):
    leader = LeaderArm(on_5_volts.link, 1_000_000, on_5_volts.calibration, "of the test", MOTORS)
    assert leader.read(7).positions.shape == (6,)
    leader.close()


def test_an_arm_on_5_volts_is_calibrated_and_its_state_is_shown(on_5_volts, tmp_path, capsys):
    assert tools.calibrate(arguments(on_5_volts, tmp_path), Person(on_5_volts.plant, MIDDLE, SWEEP)) == 0
    assert main(["so101", "state", "--port", on_5_volts.link]) == 0
    assert capsys.readouterr().out.count(" 5.0 ") == 6


def test_less_than_the_servos_own_limit_and_a_reserve_is_refused_with_both_causes(rig):
    rig.spoil("volts 1 4.2")
    text = refusal(rig.driver.connect)
    assert "servo 1 (shoulder_pan) has 4.2 V, less than 4.3 V (its own limit is 4.0 V)" in text
    assert "off" in text and "too weak" in text
    rig.spoil("volts 1 4.3")
    rig.driver.connect()


def test_a_servo_that_asks_for_more_is_believed_and_one_that_asks_for_nothing_is_not(rig):
    burn(rig, MIN_VOLTAGE, 6.0)
    rig.spoil("volts 1 6.2")
    assert "6.2 V, less than 6.3 V (its own limit is 6.0 V)" in refusal(rig.driver.connect)
    burn(rig, MIN_VOLTAGE, 0.0)
    rig.spoil("volts 1 4.2")
    assert "4.2 V, less than 4.3 V" in refusal(rig.driver.connect)


def test_servos_for_12_volts_on_the_supply_of_an_arm_for_less_are_named_and_their_own_supply_is_taken(on_5_volts):
    burn(on_5_volts, MAX_VOLTAGE, 14.0)
    text = refusal(on_5_volts.driver.connect)
    assert "servo 1 (shoulder_pan) has 5.0 V" in text and "12 V servo" in text and "label" in text
    for servo in on_5_volts.bus.servos:
        servo.voltage = 12.1
    on_5_volts.driver.connect()


def test_the_12_volts_of_another_arm_are_named_before_anything_is_switched_on(rig):
    for servo in rig.bus.servos:
        servo.voltage = 12.1
    assert "12.1 V, more than the 8.0 V that it is made for: unplug the supply" in refusal(rig.driver.connect)
    assert not any(rig.torques)


def test_a_5_volt_supply_that_sags_under_load_is_a_warning_before_it_stops_the_arm(on_5_volts):
    driver = on_5_volts.driver
    driver.connect()
    driver.write(driver.read().positions)
    on_5_volts.spoil("volts 2 4.5")
    driver.read()
    low = {reading.name: reading for reading in driver.health()}["shoulder_lift voltage"]
    assert level(low) == Level.WARN
    on_5_volts.spoil("volts 2 4.2")
    assert "servo 2 (shoulder_lift) has 4.2 V, less than 4.3 V" in fault(driver)
    assert all(on_5_volts.torques)


def test_the_supply_of_a_12_volt_arm_that_sags_is_a_warning_before_it_stops_the_arm(rig):
    burn(rig, MAX_VOLTAGE, 14.0)
    for servo in rig.bus.servos:
        servo.voltage = 12.1
    rig.driver.connect()
    rig.spoil("volts 2 6.1")
    rig.driver.read()
    low = {reading.name: reading for reading in rig.driver.health()}["shoulder_lift voltage"]
    assert level(low) == Level.WARN
    rig.spoil("volts 2 5.9")
    assert "servo 2 (shoulder_lift) has 5.9 V" in fault(rig.driver)


@pytest.mark.parametrize("volts, words", [(5.0, "this is the supply of 7.4 V servos"), (15.0, "unplug the supply")])
def test_a_12_volt_arm_that_comes_back_on_another_supply_is_not_armed(rig, volts, words):
    burn(rig, MAX_VOLTAGE, 14.0)
    for servo in rig.bus.servos:
        servo.voltage = 12.1
    rig.driver.connect()
    rig.spoil("power_off")
    fault(rig.driver)
    for servo in rig.bus.servos:
        servo.voltage = volts
    rig.spoil("power_on")
    until(lambda: words in refusal(rig.driver.read))
    assert not any(rig.torques)


def test_an_arm_at_rest_is_released_however_low_its_supply_is(armed):
    armed.go(armed.contract.values("rest", MOTORS))
    armed.driver.close()
    for servo in armed.bus.servos:
        servo.voltage = 3.8
    assert main(["so101", "release", "--port", armed.link, "--calibration", "double"]) == 0
    assert not any(armed.torques)
