# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of the adapter and of the bus while the arm holds: named, borne, or the motors let go."""

from yam_rig import complaint, switch_on_again

from yam_driver.double import Status


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
