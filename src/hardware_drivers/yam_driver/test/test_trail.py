# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the double remembers for whoever watches it: where its shafts were, and what its motors were told."""

import json

import numpy as np
import pytest

from yam_driver.double import MujocoPlant, Status
from yam_driver.double.command import obey


def rows(double, kind):
    taken = json.loads(obey(double, "trail"))[kind]
    return np.array([row["time"] for row in taken]), np.array([row["positions"] for row in taken])


def test_every_goal_that_motors_were_told_is_remembered_once_and_in_order(double, on, until):
    until(lambda: all(motor.command.kp for motor in double.motors))
    rows(double, "told")
    goal = on._loop.command
    goal[0] += 0.2
    on.write(goal)
    until(lambda: double.motor(1).command.pos > 0.199)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 14)
    times, told = rows(double, "told")
    assert (np.diff(times) > 0).all() and (np.diff(told[:, 0]) > 0).all()
    assert told[-1, 0] == pytest.approx(0.2, abs=1e-3)
    assert np.ptp(told[:, 1:6], axis=0).max() < 1e-3 and told.shape[1] == 7
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 14)
    assert not len(rows(double, "told")[0])    # nothing new


def test_what_a_motor_is_told_that_has_let_go_is_remembered_too(double, on, until):
    until(lambda: all(motor.command.kp for motor in double.motors))
    double.motor(4).fail(Status.OVERLOAD)
    until(lambda: not on._loop.all_on)
    obey(double, "trail")
    goal = on._loop.command
    goal[[0, 3]] += 0.05
    on.write(goal)
    until(lambda: double.motor(1).command.pos > 0.049)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 14)
    _, told = rows(double, "told")
    assert told[-1, [0, 3]] == pytest.approx(goal[[0, 3]], abs=1e-3)


def test_the_shafts_are_seen_a_hundred_times_in_a_second_of_the_doubles_clock(double):
    obey(double, "trail")
    double.pass_time(0.5)
    double.pass_time(0.5)
    assert len(rows(double, "seen")[0]) == 2    # as often as its time is let go on
    for _ in range(200):
        double.pass_time(0.004)
    times, seen = rows(double, "seen")
    assert np.diff(times) == pytest.approx(0.012, abs=0.0021) and seen.shape[1] == 7


def test_a_limp_arm_that_has_come_to_rest_does_not_creep():
    plant = MujocoPlant()
    plant.place((0.3, 0.8, 0.9, 0.1, 0.45, 0.1, 3.25))
    shafts = []
    for _ in range(1250):
        plant.advance([0.0] * 7)
        shafts.append(plant.state()[0][:6].copy())
    assert np.abs(shafts[-1] - shafts[-350]).max() < 2e-3    # in 0.7 s
