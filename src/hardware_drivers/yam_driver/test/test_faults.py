# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of motors and bus while the arm holds: each is named, the rest of the arm is held, and it comes back only when
it is switched on anew."""

import logging

import pytest
from yam_rig import hold_here

from arm_controller.driver import DriverError
from yam_driver.double import Status


def complaint(driver) -> str:
    try:
        driver.read()
    except DriverError as error:
        return str(error)
    return ""


def others_hold(double, number, until) -> bool:
    """They are on, and go on being commanded."""
    rest = [motor for motor in double.motors if motor.id != number]
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 14)
    return all(motor.status == Status.ON and motor.command.kp > 0 for motor in rest)


def switch_on_again(driver, until):
    """As after an operator cleared the fault and armed."""
    until(lambda: not complaint(driver))
    hold_here(driver)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.OVER_CURRENT, "over current"),
        (Status.OVERLOAD, "overload"),
        (Status.UNDER_VOLTAGE, "under voltage"),
        (Status.OVER_VOLTAGE, "over voltage"),
        (Status.COMM_LOSS, "loss communication"),
        (Status.OFF, "disabled"),
    ],
)
def test_a_motor_that_fails_is_named_the_others_hold_and_it_comes_back_only_when_armed(
    double, on, until, status, words
):
    double.motor(4).fail(status)
    until(lambda: f"motor 4 (left_joint_3) reports {words}" in complaint(on))
    with pytest.raises(DriverError, match="motor 4"):
        on.write(on._loop.command)
    assert others_hold(double, 4, until) and double.motor(4).status == status
    until(lambda: not complaint(on))
    assert double.motor(4).status == status    # nobody clears it by itself
    switch_on_again(on, until)
    assert all(motor.status == Status.ON for motor in double.motors)


def test_a_hot_motor_is_named_as_long_as_it_is_hot(double, on, until):
    double.motor(2).rotor = 101.0
    until(lambda: "motor 2 (left_joint_1) reports motor over temperature at 101 degC" in complaint(on))
    assert others_hold(double, 2, until)
    double.motor(2).rotor = 45.0
    switch_on_again(on, until)
    assert double.motor(2).status == Status.ON


def test_a_warm_motor_is_warned_of_once_and_at_70_degrees_the_arm_stops_and_holds(double, on, until, caplog):
    with caplog.at_level(logging.WARNING, "yam_driver"):
        double.motor(3).mos = 62.0
        until(lambda: "motor 3 (left_joint_2) is at 62 degC" in caplog.text)
        count = len(double.frames)
        until(lambda: len(double.frames) > count + 14)
        assert caplog.text.count("is at 62 degC") == 1 and not complaint(on)
        double.motor(3).mos = 71.0
        until(lambda: "is at 71 degC, more than 70; the arm holds" in complaint(on))
    assert others_hold(double, 0, until)
    until(lambda: not complaint(on))    # time for an operator to park
    on.write(on._loop.command)


def test_an_error_that_does_not_clear_is_refused_by_name_when_armed(double, on, until):
    double.motor(5).fail(Status.OVERLOAD, sticky=True)
    until(lambda: "motor 5" in complaint(on))
    until(lambda: not complaint(on))
    with pytest.raises(DriverError, match=r"motor 5 \(left_joint_4\) cannot be switched on.*overload"):
        hold_here(on)
    assert others_hold(double, 5, until)


def test_a_motor_whose_cable_comes_off_is_named_and_the_others_hold(double, on, until):
    double.motor(6).plugged = False
    until(lambda: "motor 6 (left_joint_5) does not answer any more; the others hold" in complaint(on))
    assert others_hold(double, 6, until)
    double.motor(6).plugged = True
    switch_on_again(on, until)
    assert double.motor(6).status == Status.ON


def test_power_that_goes_is_named_and_comes_back_off(double, on, until):
    double.power(False)
    until(lambda: "no motor on" in complaint(on) and "E-stop" in complaint(on))
    double.power(True)
    until(lambda: not complaint(on))
    assert all(motor.status == Status.OFF for motor in double.motors)
    switch_on_again(on, until)
    assert all(motor.status == Status.ON for motor in double.motors)


def test_an_adapter_that_is_unplugged_is_named_the_motors_let_go_and_it_comes_back_checked(double, on, until):
    double.adapter.unplug()
    until(lambda: "adapter" in complaint(on))
    double.pass_time(1.2)
    assert all(motor.status == Status.COMM_LOSS for motor in double.motors)
    double.adapter.plug()
    until(lambda: not complaint(on))
    assert not any(motor.status == Status.ON for motor in double.motors)
    switch_on_again(on, until)
    assert all(motor.status == Status.ON for motor in double.motors)


def test_an_adapter_that_comes_back_to_another_arm_is_refused(double, on, until):
    double.adapter.unplug()
    until(lambda: "adapter" in complaint(on))
    double.motor(2).registers[9] = 0
    double.adapter.plug()
    until(lambda: "command timeout switched off" in complaint(on))


def test_bus_off_is_a_fault_and_the_motors_let_go(double, on, until):
    double.adapter.bus_off = True
    until(lambda: "no motor on" in complaint(on))
    double.pass_time(1.2)
    assert all(motor.status == Status.COMM_LOSS for motor in double.motors)


def test_lost_answers_are_asked_for_again_and_do_not_stop_the_arm(double, on, until):
    double.adapter.drop = 0.02
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 140)
    assert sum(motor.status == Status.ON for motor in double.motors) == 7
    double.adapter.drop = 0.0
    until(lambda: not complaint(on))


def test_spoilt_answers_are_dropped_and_never_read_as_positions(double, on, until):
    double.adapter.corrupt = 0.2
    begun, seen = len(double.frames), []
    while len(double.frames) < begun + 140:
        if not complaint(on):
            seen.append(on._loop.last_positions[0])
    assert seen and max(abs(value) for value in seen) < 0.2
    double.adapter.corrupt = 0.0
    until(lambda: not complaint(on))


def test_readings_are_new_or_an_error_never_frozen(double, on, until, monkeypatch):
    stamps = set()
    until(lambda: stamps.add(on.read().stamp_ns) or len(stamps) > 5)
    on._loop._ending.set()      # as if its thread had ended
    on._loop._thread.join()
    monkeypatch.setattr("yam_driver.loop.OLD", 0.15)
    until(lambda: "have not been heard" in complaint(on))


def test_a_motor_that_reads_otherwise_when_it_is_on_is_switched_off_again(double, driver):
    double.motor(3).jump = 0.5
    with pytest.raises(DriverError, match=r"motor 3 \(left_joint_2\) read .* rad off and .* on"):
        hold_here(driver)
    assert all(motor.status == Status.OFF for motor in double.motors)


def test_a_fault_while_guided_holds_the_arm_where_it_is(double, on, until):
    on.guide()
    until(lambda: double.motor(1).command.kp == 0)
    double.motor(7).fail(Status.OVERLOAD)
    until(lambda: "motor 7 (left_gripper)" in complaint(on))
    until(lambda: double.motor(1).command.kp > 0)


def test_the_driver_never_switches_a_command_timeout_off(on):
    with pytest.raises(ValueError):
        on._loop._bus.write_timeout(1, 0)
