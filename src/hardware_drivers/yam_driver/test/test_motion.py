# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Setpoints, holding, guiding, and what happens at the end."""

import numpy as np
import pytest
from yam_rig import RAISED, hold_here, patient_double

from arm_controller.driver import DriverError
from yam_driver import loop
from yam_driver.double import MujocoPlant, Status
from yam_driver.double.motor import Command


def ramp(driver, target, until, steps=40):
    """Setpoints as the controller sends them, each when the command has come to the last."""
    start, target = driver._loop.command, np.asarray(target)
    for k in range(1, steps + 1):
        wanted = start + (target - start) * k / steps
        driver.write(wanted)
        until(lambda wanted=wanted: np.abs(driver._loop.command - wanted).max() < 1e-6)


@pytest.fixture
def heavy(tmp_path):
    """An arm with weight, in MuJoCo, at rest."""
    arm = patient_double(tmp_path / "can", MujocoPlant(), start=(0, 0, 0, -0.24, 0, 0, 3.25))
    yield arm
    arm.close()


def test_the_first_setpoint_switches_the_motors_on_where_they_are(double, driver):
    hold_here(driver)
    assert all(motor.status == Status.ON for motor in double.motors)
    assert driver.read().positions == pytest.approx([0, 0, 0, 0, 0, 0, 0.5], abs=0.05)


def test_an_arm_with_weight_goes_where_it_is_told_and_stays(heavy, make, until):
    driver = make(heavy)
    driver.connect()
    hold_here(driver)
    target = np.array([0.3, 0.9, 0.9, 0.1, 0.1, 0.1, 0.8])
    ramp(driver, target, until)
    until(lambda: np.abs(driver.read().positions - target).max() < 0.06)
    driver.stop()
    assert np.abs(driver.read().positions - target).max() < 0.1


def test_the_gripper_is_0_closed_and_1_open(heavy, make, until):
    driver = make(heavy)
    driver.connect()
    hold_here(driver)
    ramp(driver, [0, 0, 0, -0.24, 0, 0, 1.0], until)
    until(lambda: heavy.positions()[6] < 0.2)
    ramp(driver, [0, 0, 0, -0.24, 0, 0, 0.0], until)
    until(lambda: heavy.positions()[6] > 6.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_setpoint_that_is_no_number_is_refused_and_the_arm_goes_on_holding(double, on, until, bad):
    wanted = on.read().positions.copy()
    wanted[2] = bad
    with pytest.raises(DriverError, match="'left_joint_2' is not a number; nothing was sent"):
        on.write(wanted)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 21)
    assert all(motor.status == Status.ON for motor in double.motors) and on.read()


def test_a_leap_is_refused_and_nothing_of_it_is_sent(double, on):
    wanted = on.read().positions.copy()
    wanted[0] = 1.0
    with pytest.raises(DriverError, match="'left_joint_0' leaps by 1.0"):
        on.write(wanted)
    assert abs(double.motor(1).command.pos) < 0.05


def test_a_first_setpoint_far_from_the_arm_switches_nothing_on(double, driver):
    with pytest.raises(DriverError, match="leaps"):
        driver.write(np.array([0, 1.0, 0, 0, 0, 0, 0.5]))
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_a_setpoint_outside_the_limits_is_refused_though_the_vendor_would_take_it(double, on):
    hold_here(on)
    with pytest.raises(DriverError, match="lies outside -0.05"):
        on.write(np.array([0, -0.1, 0, 0, 0, 0, 0.5]))    # the vendor takes down to -0.15


def test_a_setpoint_of_another_shape_is_refused(on):
    with pytest.raises(DriverError, match="7 joints"):
        on.write(np.zeros(6))


def test_what_is_commanded_never_moves_faster_than_the_limits_allow(double, on, contract, until):
    """However the setpoints come: here all at once, each as far as a step may be."""
    seen = []
    target = on._loop.command.copy()
    for _ in range(12):
        target[0] += 0.25
        try:
            on.write(target)
        except DriverError:    # the command has not come so far yet
            target[0] -= 0.25
        seen.append(on._loop.command[0])
        cycled = on._loop._cycled
        until(lambda cycled=cycled: on._loop._cycled != cycled)
    most = contract.joints["left_joint_0"].velocity * 1.5
    # A late cycle makes up for five periods at most, and up to two lie between two looks.
    assert seen[-1] > seen[0] and max(np.diff(seen)) <= most * 2 * 5 * loop.PERIOD + 1e-6


def test_stop_holds_where_the_arm_is(double, on, until):
    ramp(on, [0.5, 0.1, 0.1, 0, 0, 0, 0.5], until)
    on.stop()
    assert on._loop.command == pytest.approx(on.read().positions, abs=0.15)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 21)
    assert all(motor.status == Status.ON and motor.command.kp > 0 for motor in double.motors)


def test_stop_with_the_motors_off_leaves_them_off(double, driver):
    driver.stop()
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_once_the_motors_are_on_the_loop_has_the_priority_of_the_thread_that_drives_it(double, driver, monkeypatch):
    given = []
    monkeypatch.setattr("yam_driver.loop.os.sched_getscheduler", lambda _: 1)    # as the setpoint process has it
    monkeypatch.setattr("yam_driver.loop.os.sched_getparam", lambda _: "fifo 50")
    monkeypatch.setattr("yam_driver.loop.os.sched_setscheduler", lambda *what: given.append(what))
    hold_here(driver)
    assert given == [(0, 1, "fifo 50")]


# --- hand guiding -----------------------------------------------------------------------------------------------------
def test_a_guided_arm_carries_its_weight_yields_to_a_hand_and_stays_where_it_is_put(tmp_path, make, until):
    heavy = patient_double(tmp_path / "can", MujocoPlant(), start=RAISED)
    try:
        driver = make(heavy)
        driver.connect()
        hold_here(driver)
        driver.guide()
        until(lambda: heavy.motor(3).command.kp == 0)
        before = driver.read().positions
        assert heavy.motor(3).command.torque > 4.0    # it carries
        pushed = heavy.positions()
        pushed[0] += 0.4                                    # a hand turns the base
        heavy.place(pushed)
        until(lambda: driver.read().positions[0] > before[0] + 0.3)
        driver.stop()
        until(lambda: heavy.motor(1).command.kp > 0)
        assert heavy.motor(1).command.pos == pytest.approx(pushed[0], abs=0.1)
        assert heavy.positions()[1] == pytest.approx(before[1], abs=0.2)
    finally:
        driver.close()
        heavy.close()


def test_motors_that_are_off_cannot_guide(driver):
    with pytest.raises(DriverError, match="arm the arm first"):
        driver.guide()


# --- the end ----------------------------------------------------------------------------------------------------------
def test_closing_at_the_rest_pose_switches_the_motors_off(double, on):
    on.close()
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_the_arm_stays_at_its_rest_pose_without_torque(heavy, make):
    driver = make(heavy)
    driver.connect()
    hold_here(driver)
    driver.close()
    before = heavy.positions()
    heavy.pass_time(2.0)
    assert heavy.positions()[:6] == pytest.approx(before[:6], abs=0.1)


def test_closing_away_from_the_rest_pose_lets_the_arm_sink_before_it_is_switched_off(tmp_path, make):
    heavy = patient_double(tmp_path / "can", MujocoPlant(), start=RAISED)
    try:
        driver = make(heavy)
        driver.connect()
        hold_here(driver)
        begun = len(heavy.frames)
        driver.close()
        sent = [data for number, data in heavy.frames[begun:] if number == 2 and data[:7] != b"\xff" * 7]
        commands: list[Command] = [heavy.motor(2).meant(data) for data in sent]
        damped = [c for c in commands if c.kp == 0 and c.kd > 4]
        assert len(damped) > 10 and abs(damped[0].torque) > 2 * abs(damped[-1].torque)
        assert all(motor.status == Status.OFF for motor in heavy.motors)
    finally:
        heavy.close()


def test_limp_switches_off_at_once(double, on):
    on.limp()
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_closing_without_having_armed_sends_no_command(double, driver):
    driver.close()
    assert all(number == 0x7FF for number, _ in double.frames)


def test_the_bus_is_free_after_closing(double, driver, make):
    driver.close()
    make(double).connect()


def test_positions_survive_the_way_to_the_wire_and_back(double, driver, make):
    for shafts in ([0.5, 1.0, 1.5, -0.5, 0.7, -1.2, 6.5], [-1.0, 0.2, 0.1, 1.0, -0.7, 1.2, 0.0]):
        driver.close()
        double.place(shafts)
        driver = make(double)
        driver.connect()
        assert driver.read().positions == pytest.approx([*shafts[:6], 1 - shafts[6] / 6.5], abs=1e-3)


def test_stop_holds_the_joints_and_keeps_what_the_gripper_was_told(on, until):
    closing = on.read().positions.copy()
    closing[-1] = 0.0
    on.write(closing)
    on.stop()
    assert on.held()[-1] == 0.0
    until(lambda: on.read().positions[-1] < 0.02)
    on.guide()
    assert on.held() is None
