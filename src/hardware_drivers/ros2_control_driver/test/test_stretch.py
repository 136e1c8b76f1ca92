# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Setpoints gathered to trajectories: what of them is still due, in order, and nothing else."""

import numpy as np
import pytest
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ros2_control_driver.stand_in import trajectory_error
from ros2_control_driver.stretch import NEAR, Stretch
from ros2_control_driver.wire import Goal

BEGIN = 1_800_000_000_000_000_000
TICK = 10_000_000
LEAD = 0.3


def told(stretch, ticks):
    """Setpoints, one a tick; the joint is at its tick's number."""
    for tick in ticks:
        assert not stretch.add(Goal((float(tick),), BEGIN + tick * TICK))


def due(trajectory):
    """Ticks at which points are due, less the lead, and where they are."""
    begin = trajectory.stamp_ns - BEGIN - int(LEAD * 1e9)
    return [((begin + from_begin) / TICK, positions[0]) for from_begin, positions in trajectory.points]


def test_each_setpoint_is_due_a_lead_after_it_was_commanded():
    stretch = Stretch(LEAD)
    told(stretch, range(15))
    trajectory = stretch.take(BEGIN + 15 * TICK)
    assert due(trajectory) == [(tick, tick) for tick in range(15)]


def test_a_new_trajectory_repeats_what_of_the_last_is_not_due_yet_and_drops_what_is():
    stretch = Stretch(LEAD)
    told(stretch, range(30))
    stretch.take(BEGIN + 30 * TICK)
    told(stretch, range(30, 45))
    trajectory = stretch.take(BEGIN + 45 * TICK)
    first = 45 - int(LEAD * 1e9) // TICK + NEAR // TICK
    assert due(trajectory) == [(tick, tick) for tick in range(first, 45)]


def test_nothing_is_sent_again_where_nothing_new_was_commanded():
    stretch = Stretch(LEAD)
    told(stretch, range(5))
    assert stretch.take(BEGIN + 5 * TICK) is not None
    assert stretch.take(BEGIN + 6 * TICK) is None


def test_setpoints_that_are_all_over_are_never_executed():
    stretch = Stretch(LEAD)
    told(stretch, range(5))
    assert stretch.take(BEGIN + 1000 * TICK) is None


def test_a_stop_goes_at_once_counts_whenever_it_arrives_and_ends_all_before_it():
    stretch = Stretch(LEAD)
    told(stretch, range(5))
    assert stretch.add(Goal((7.0,), 0))
    trajectory = stretch.take(BEGIN + 5 * TICK)
    assert trajectory.stamp_ns == 0 and trajectory.points == ((int(LEAD * 1e9), (7.0,)),)
    told(stretch, [6])
    assert due(stretch.take(BEGIN + 7 * TICK)) == [(6, 6)]


def test_after_a_clock_was_set_back_times_still_increase():
    stretch = Stretch(LEAD)
    told(stretch, [10, 11, 5, 6])
    assert due(stretch.take(BEGIN + 6 * TICK)) == [(5, 5), (6, 6)]


def trajectory(times=(0.1, 0.2), joints=("a", "b"), **changes):
    message = JointTrajectory(joint_names=list(joints))
    for time in times:
        point = JointTrajectoryPoint(positions=[0.0] * len(joints))
        point.time_from_start.sec, point.time_from_start.nanosec = int(time), int(time % 1 * 1e9)
        message.points.append(point)
    for name, value in changes.items():
        setattr(message.points[-1], name, value)
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (trajectory(joints=("a", "c")), "are not the controller's"),
        (trajectory(times=()), "no points"),
        (trajectory(times=(0.2, 0.2)), "do not increase"),
        (trajectory(times=(0.2, 0.1)), "do not increase"),
        (trajectory(velocities=[0.1, 0.0]), "last point is not zero"),
        (trajectory(positions=[0.0]), "has 1 positions for 2 joints"),
        (trajectory(positions=[0.0, np.nan]), "not a number"),
    ],
)
def test_the_stand_in_refuses_what_the_real_controller_refuses(message, words):
    assert words in trajectory_error(message, ["a", "b"], 100.0)


def test_the_stand_in_refuses_a_trajectory_that_ends_in_the_past_and_takes_one_that_is_under_way():
    message = trajectory()
    message.header.stamp.sec = 100
    assert "in the past" in trajectory_error(message, ["a", "b"], 100.3)
    assert trajectory_error(message, ["a", "b"], 100.15) == ""
