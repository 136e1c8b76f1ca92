# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Bad set-ups and faults of the bus: each is named, with its mend, and nothing moves."""

import os
import subprocess
import sys

import numpy as np
import pytest
from arm_rig import fault, refusal, until

from so101_driver.calibration import MotorCalibration
from so101_driver.double.arm import double_calibration
from so101_driver.driver import SO101Driver
from so101_driver.registers import BAUD_RATE, HOMING_OFFSET, ID


@pytest.fixture(autouse=True)
def nothing_moves_at_connect(request, rig):
    """Of an arm that is limp: it stays limp, and its goals as they are."""
    yield
    if "armed" not in request.fixturenames:
        assert not any(rig.torques)


# --- at connect -------------------------------------------------------------------------------------------------------
def test_a_port_that_is_not_there_is_named_with_those_that_are(rig):
    rig.spoil("unplug")
    text = refusal(rig.driver.connect)
    assert f"no port {rig.link}" in text and "USB serial port" in text


def test_a_port_without_permission_names_the_group(rig, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "usermod -aG dialout" in refusal(rig.driver.connect)


def test_a_file_that_is_no_port_is_refused(rig, tmp_path):
    (tmp_path / "file").write_text("")
    other = SO101Driver(rig.contract, rig.contract.arm("arm"), str(tmp_path / "file"), double_calibration(), "x")
    assert "cannot be opened as a serial port" in refusal(other.connect)


def test_a_second_driver_on_the_bus_is_refused(rig):
    rig.driver.connect()
    assert "in use by another program" in refusal(rig.new_driver().connect)
    rig.driver.read()


def test_another_program_that_has_the_port_open_is_named_even_where_it_took_no_lock(rig):
    code = f"import os, sys; os.open({rig.link!r}, os.O_RDWR | os.O_NOCTTY); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        text = refusal(rig.driver.connect)
        assert f"process {holder.pid}" in text and "two programs on one bus" in text
    finally:
        holder.communicate(b"")


def test_servos_at_another_rate_are_found_and_the_rate_is_named(rig):
    for servo in rig.bus.servos:
        servo.burn(BAUD_RATE, 4)
    text = refusal(rig.driver.connect)
    assert "answer at 115200 baud" in text and "baud=115200" in text


def test_an_arm_at_another_rate_is_driven_when_told_so(rig):
    for servo in rig.bus.servos:
        servo.burn(BAUD_RATE, 4)
    other = rig.new_driver(baud=115_200)
    other.connect()
    other.read()
    other.close()


def test_an_arm_without_power_is_told_from_a_wrong_port_as_far_as_can_be(rig):
    rig.spoil("power_off")
    text = refusal(rig.driver.connect)
    assert "no servo answers" in text and "power supply" in text


def test_a_servo_that_does_not_answer_is_named_and_nothing_moves(rig):
    rig.spoil("silent 3")
    text = refusal(rig.driver.connect)
    assert "servo 3 (elbow_flex) does not answer, the others do" in text


def test_a_servo_with_a_wrong_id_is_named_beside_the_one_that_is_missing(rig):
    rig.bus.servo(4).burn(ID, 9)
    text = refusal(rig.driver.connect)
    assert "servo 4 (wrist_flex) does not answer" in text and "id 9" in text


def test_new_servos_that_all_have_id_1_are_recognised(rig):
    for servo in rig.bus.servos[1:]:
        servo.burn(ID, 1)
    text = refusal(rig.driver.connect)
    assert "id 1 (shoulder_pan) is answered by more than one servo" in text or "new servos all have id 1" in text


def test_two_servos_of_one_id_are_named(rig):
    rig.spoil("duplicate 5")
    text = refusal(rig.driver.connect)
    assert "id 5 (wrist_roll) is answered by more than one servo" in text and "set its id" in text


def test_a_servo_of_another_kind_is_not_moved(rig):
    rig.spoil("model 2 1284")
    text = refusal(rig.driver.connect)
    assert "servo 2 (shoulder_lift) is of model 1284, not an STS3215 (777)" in text


def test_the_calibration_of_another_arm_is_refused(rig):
    rig.bus.servo(2).burn(HOMING_OFFSET, 500)
    text = refusal(rig.driver.connect)
    assert "not that of this arm" in text and "shoulder_lift has offset 500" in text and "calibrate so101" in text


def test_a_hot_servo_is_told_by_the_first_reading_and_nothing_is_switched_on(rig):
    rig.spoil("heat 2 68")
    rig.driver.connect()
    text = refusal(rig.driver.read)
    assert "servo 2 (shoulder_lift) is at 68 deg C" in text and "let it cool" in text
    assert "only while the arm's positions are read" in refusal(lambda: rig.driver.write(np.zeros(6)))


def test_calibrations_of_two_motors_with_one_id_never_reach_the_bus(rig):
    twice = double_calibration()
    motor = twice["gripper"]
    twice["gripper"] = MotorCalibration(9, 0, motor.homing_offset, motor.range_min, motor.range_max)
    assert "servo 9 (gripper) does not answer" in refusal(rig.new_driver(calibration=twice).connect)


# --- while it runs ----------------------------------------------------------------------------------------------------
def test_answers_that_are_lost_or_broken_now_and_then_are_asked_for_again(armed):
    at = armed.driver.read().positions
    armed.bus.spoiling.drop, armed.bus.spoiling.corrupt = 0.02, 0.02
    for _ in range(100):
        assert armed.driver.read().positions == pytest.approx(at, abs=0.002)
        armed.driver.write(at)
    assert armed.driver._servos.bus.retries > 0


def test_a_bus_that_breaks_every_answer_is_a_fault_that_says_so(armed):
    armed.spoil("corrupt 1")
    assert "broken frames" in fault(armed.driver)
    armed.spoil("ok")
    armed.driver.read()


def test_a_late_answer_never_passes_for_the_answer_to_another_question(armed):
    armed.spoil("delay 0.4")
    assert "does not answer" in fault(armed.driver)
    at = [armed.present(motor) for motor in armed.calibration]
    armed.spoil("delay 0")
    for _ in range(20):
        positions = armed.driver.read().positions
        counts = armed.driver._units.to_counts(positions)
        assert counts == pytest.approx(at, abs=1)


def test_a_servo_that_falls_silent_is_named_and_the_others_keep_their_goals(armed):
    goals = armed.goals
    armed.spoil("silent 4")
    text = fault(armed.driver)
    assert "servo 4 does not answer (wrist_flex)" in text
    assert armed.goals == goals and all(armed.torques)


def test_a_cable_that_is_pulled_is_named_and_the_servos_hold(armed):
    goals = armed.goals
    armed.spoil("unplug")
    text = fault(armed.driver)
    assert "has gone" in text and "plug it in again" in text
    assert "has gone" in refusal(lambda: armed.driver.write(np.zeros(6)))
    assert armed.goals == goals and all(armed.torques)


def test_a_cable_that_is_plugged_in_again_gives_readings_and_moves_nothing(armed):
    at = armed.driver.read().positions
    armed.spoil("unplug")
    fault(armed.driver)
    armed.spoil("replug")
    until(lambda: not refusal(armed.driver.read))
    assert armed.driver.read().positions == pytest.approx(at, abs=0.01)
    armed.driver.write(at)


def test_another_arm_on_the_cable_that_is_plugged_in_again_is_refused(armed):
    armed.spoil("unplug")
    fault(armed.driver)
    armed.bus.servo(3).burn(HOMING_OFFSET, -900)
    armed.spoil("replug")
    until(lambda: "not that of this arm" in refusal(armed.driver.read))


def test_after_a_loss_of_power_the_arm_is_limp_and_stays_so_until_it_is_armed_anew(armed):
    armed.spoil("power_off")
    assert "power supply" in fault(armed.driver)
    armed.spoil("power_on")
    texts = [refusal(armed.driver.read)]
    assert any("lost torque" in text or "does not answer" in text for text in texts)
    until(lambda: not refusal(armed.driver.read))
    at = armed.driver.read().positions
    assert "stays limp until clear_fault and arm" in refusal(lambda: armed.driver.write(at))
    assert not any(armed.torques)
    armed.driver.recover()
    assert not any(armed.torques)
    armed.driver.write(armed.driver.read().positions)
    assert all(armed.torques)


def test_a_servo_that_started_anew_is_found_within_a_turn_of_six_readings(armed):
    armed.spoil("limp 2")
    texts = [refusal(armed.driver.read) for _ in range(6)]
    assert any("shoulder_lift lost torque" in text for text in texts)


def test_an_overload_is_named(armed):
    armed.spoil("overload 3")
    assert "servo 3 (elbow_flex) reports: overloaded" in fault(armed.driver)


def test_a_warm_servo_is_warned_of_once_and_a_hot_one_stops_the_arm_while_it_still_holds(armed, caplog):
    armed.spoil("heat 2 61")
    for _ in range(20):
        armed.driver.read()
    warned = [record.message for record in caplog.records]
    assert warned == ["servo 2 (shoulder_lift) is at 61 deg C; the arm stops at 68"]
    armed.spoil("heat 2 68")
    assert "68 deg C" in fault(armed.driver)
    assert all(armed.torques)


def test_heat_at_the_servos_own_limit_takes_its_torque_and_is_named(armed):
    armed.spoil("heat 2 75")
    assert "overheated" in fault(armed.driver)
    assert armed.torques[1] is False


def test_an_arm_that_is_hot_can_still_be_stopped_where_it_is(armed):
    armed.spoil("heat 2 69")
    fault(armed.driver)
    armed.driver.stop()
    assert all(armed.torques)


def test_a_motor_that_takes_too_much_current_for_a_second_is_a_fault(armed):
    armed.plant.blocked.add(1)    # at 90 % of its torque: 2.2 A
    text = fault(armed.driver)
    assert "servo 2 (shoulder_lift) takes 2.2 A" in text and "blocks" in text


def test_no_setpoint_is_sent_where_nobody_sees_the_arm(armed):
    positions, goals = armed.driver.read().positions, armed.goals
    armed.spoil("silent 1")
    fault(armed.driver)
    assert "only while the arm's positions are read" in refusal(lambda: armed.driver.write(positions + 0.1))
    armed.spoil("ok")
    armed.driver.read()
    assert armed.goals == goals


def test_to_an_arm_that_is_not_well_setpoints_are_sent_for_a_ramp_to_rest_and_no_longer(armed):
    positions = armed.driver.read().positions
    armed.spoil("volts 1 4.2")
    fault(armed.driver)
    armed.driver.write(positions)

    def over() -> bool:
        fault(armed.driver)
        return "only while the arm's positions are read" in refusal(lambda: armed.driver.write(positions))

    until(over)
