# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The witness of a double: what the double tells of its arm and of its setpoints is what is judged."""

from pathlib import Path

import numpy as np
import pytest
from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from molmoact2_bringup.faults import witness
from molmoact2_bringup.faults.witness import DoublesWitness
from molmoact2_contract import load_contract

CONTRACT = load_contract(Path(__file__).parents[3] / "config/embodiments/yam_single.yaml")
RAISED = np.array([0.3, 0.8, 0.9, 0.1, 0.1, 0.1, 0.5])
SPEED, LIMIT = 1.2, 8.0    # [rad/s], [rad/s^2] of joint 0


class Ears:
    """A node that keeps what listens by its topic."""

    def __init__(self):
        self.heard = {}

    def create_subscription(self, _, topic, listens, __):
        self.heard[topic] = listens


@pytest.fixture
def ears():
    return Ears()


@pytest.fixture
def seer(ears):
    return DoublesWitness(CONTRACT, CONTRACT.arm("arm"), ears, "left_double")


def told(angle, seconds=1.5, step=0.01):
    """Joint 0 at angle(t) from a raised pose, the others there."""
    points = []
    for time in np.arange(0, seconds, step):
        positions = RAISED + np.array([angle(time), 0, 0, 0, 0, 0, 0])
        points.append(
            JointTrajectoryPoint(positions=positions.tolist(), time_from_start=Duration(seconds=float(time)).to_msg())
        )
    return JointTrajectory(points=points)


def ramps(t, end=1.0, rate=LIMIT):
    """At speed, from `end` on to rest."""
    if t < end:
        return SPEED * t
    t = min(t - end, SPEED / rate)
    return SPEED * end + SPEED * t - rate * t * t / 2


def stops(t):
    return SPEED * min(t, 1.0)


def test_a_ramp_to_rest_keeps_every_promise(ears, seer):
    for kind in ("seen", "told"):
        ears.heard[f"left_double/{kind}"](told(ramps))
    assert seer.motion_error(cut_off=False) == ""


def test_setpoints_that_stop_between_one_and_the_next_are_named_also_where_the_arm_itself_falls(ears, seer):
    ears.heard["left_double/seen"](told(ramps))
    ears.heard["left_double/told"](told(stops))
    assert "joint_0 was told to change its speed by" in seer.motion_error(cut_off=False, falls=True)


def test_setpoints_that_end_at_speed_are_named_unless_the_device_took_none_any_more(ears, seer):
    for cut_off in (False, True):
        ears.heard["left_double/seen"](told(ramps))
        ears.heard["left_double/told"](told(stops, seconds=1.0))
        assert ("was given its last setpoint at" in seer.motion_error(cut_off)) != cut_off
        seer.forget_told()
        seer._seen.clear()


def test_a_command_that_catches_up_after_a_bus_has_asked_again_may_be_faster_than_one_in_time_and_not_at_any_speed(
    ears, seer
):
    for faster, named in ((1.4, True), (2.0, False)):    # of the limit, 1.5 rad/s
        ears.heard["left_double/seen"](told(ramps))
        ears.heard["left_double/told"](told(lambda t, speed=1.5 * faster: speed * min(t, 0.5)))
        assert "joint_0 was told to move at" in seer.motion_error(cut_off=True, timely=True)
        ears.heard["left_double/told"](told(lambda t, speed=1.5 * faster: speed * min(t, 0.5)))
        assert ("was told to move at" not in seer.motion_error(cut_off=True, timely=False)) == named
        seer.forget_told()


def test_an_arm_that_is_told_torques_alone_is_judged_by_how_it_moves(ears, seer):
    ears.heard["left_double/seen"](told(stops))
    assert "joint_0 changed its speed by" in seer.motion_error(cut_off=False)


def test_how_long_an_arm_would_brake_is_seen_from_how_it_moves(ears, seer):
    assert seer.brakes_for() == 0.0
    ears.heard["left_double/seen"](told(ramps, seconds=0.5))
    assert seer.brakes_for() == pytest.approx(SPEED / LIMIT)


def test_of_a_double_that_says_nothing_any_more_nobody_knows_that_its_arm_rests(ears, seer, monkeypatch):
    ears.heard["left_double/seen"](told(lambda t: 0.0))
    assert seer.moved(0.3) == 0.0
    monkeypatch.setattr(witness, "STALE", 0.0)
    assert seer.moved(0.3) == np.inf
