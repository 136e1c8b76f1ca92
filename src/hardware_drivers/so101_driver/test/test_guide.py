# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Guiding by hand, with weight: the simulated SO-101 gives way to a push, stays where it is left, falls limp."""

import numpy as np
import pytest

from so101_driver.double.plants import LOWER, START, UPPER, MujocoPlant
from so101_driver.hand import BAND, Hand

STRETCHED = np.array([0.0, 0.2, -0.6, 0.0, 0.0, 0.4])    # far out over the table: the most weight on the lift
TICK = 0.01


class Arm:
    """The arm in its own time."""

    def __init__(self, pose):
        self.now = 0.0
        self.plant = MujocoPlant(pose, clock=lambda: self.now)
        for index, angle in enumerate(pose):
            self.plant.set_goal(index, angle)
        self.goals = np.array(pose)
        self.run(1.0)
        self.hand = Hand(self.goals, LOWER, UPPER, np.zeros(6))

    def run(self, seconds, guided=False):
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            angles = self.plant.angles()
            if guided:
                self.goals = self.hand.follow(angles, self.now)
                for index, goal in enumerate(self.goals):
                    self.plant.set_goal(index, goal)
        return self.plant.angles()


@pytest.mark.parametrize("pose", [START, STRETCHED])
def test_an_arm_that_nobody_touches_bears_its_own_weight(pose):
    arm = Arm(pose)
    before = arm.run(0.01)
    after = arm.run(5.0, guided=True)
    assert np.abs(after - before).max() < 0.02


def test_a_hand_leads_a_joint_and_it_stays_there(pose=START):
    arm = Arm(pose)
    arm.plant.hand[0] = 2.2    # [Nm]
    pushed = arm.run(2.0, guided=True)[0]
    arm.plant.hand[0] = 0.0
    left = arm.run(2.0, guided=True)[0]
    assert pushed > 0.3 and abs(left - pushed) <= BAND + 0.05


def test_jaws_that_hold_something_hold_it_until_a_hand_opens_them_and_then_stay_there():
    bent = np.array([0, 0, 0, 0, 0, 0.4])    # closed on something that keeps them so far open
    hand, goals, now = Hand(np.zeros(6), LOWER, UPPER, bent), None, 0.0

    def led(gripper, seconds):
        nonlocal goals, now
        for _ in range(round(seconds / TICK)):
            now += TICK
            goals = hand.follow(np.array([0, 0, 0, 0, 0, gripper]), now)
        return goals[5]

    assert led(0.4, 2.0) == 0.0
    assert led(0.9, 2.0) == pytest.approx(0.9 - BAND, abs=0.01)
    assert led(0.85, 2.0) == pytest.approx(0.9 - BAND, abs=0.01)


def test_an_arm_whose_torque_goes_off_falls():
    arm = Arm(STRETCHED)
    before = arm.run(0.01)
    for index in range(6):
        arm.plant.set_goal(index, None)
    assert np.abs(arm.run(2.0) - before).max() > 0.5
