# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the YAM share."""

from arm_controller.driver import DriverError
from yam_driver.double import DoubleArm, Status

RAISED = (0.3, 0.8, 0.9, 0.1, 0.1, 0.1, 3.0)    # away from the rest pose, shafts [rad]


def hold_here(driver) -> None:
    """One setpoint where the arm is: switches the motors on."""
    driver.write(driver.read().positions.clip(driver._lower, driver._upper))


def patient_double(link, *arguments, **options) -> DoubleArm:
    """In bus time. Its motors let go after a second without commands, the most that is accepted."""
    arm = DoubleArm(link, *arguments, real_time=False, **options)
    for motor in arm.motors:
        motor.registers[9] = motor.saved[9] = 20000
    return arm


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
    """As an operator does who clears the fault and arms."""
    until(lambda: not complaint(driver))
    driver.recover()
    hold_here(driver)
