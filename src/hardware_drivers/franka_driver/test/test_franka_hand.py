# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from robot_double import wait_until
from test_franka_driver import fails_with, follow, hand_fails_with

from arm_controller.driver import DriverError
from franka_driver.hand import CLOSED, OPEN, wanted


def test_between_its_two_thresholds_a_hand_keeps_what_it_does():
    told = [OPEN]
    for share in (1.0, 0.65, 0.5, 0.45, 0.39, 0.5, 0.59, 0.41, 0.61):
        told.append(wanted(share, told[-1], 0.4, 0.6))
    assert told[1:] == [OPEN, OPEN, OPEN, OPEN, CLOSED, CLOSED, CLOSED, CLOSED, OPEN]


def goal_with(driver, share):
    goal = driver.read().positions
    goal[7] = share
    return goal


def test_the_hand_closes_and_opens_and_a_command_that_trembles_moves_nothing(driver, double):
    for share in (1.0, 0.62, 0.5, 0.45, 0.58):
        follow(driver, goal_with(driver, share), 0.1)
    assert double.ask()["hand"] == []
    follow(driver, goal_with(driver, 0.2), 10.0, lambda: driver.read().positions[7] < 0.05)
    for share in (0.45, 0.55, 0.3, 0.58):
        follow(driver, goal_with(driver, share), 0.1)
    assert double.ask()["hand"] == ["grasp 0.000 20"]
    follow(driver, goal_with(driver, 0.8), 10.0, lambda: driver.read().positions[7] > 0.95)
    assert double.ask()["hand"] == ["grasp 0.000 20", "move 0.080"]


@pytest.mark.parametrize(
    ("first", "then", "done"), [(0.65, 1.0, "move 0.080"), (0.3, 0.0, "grasp 0.000 20"), (0.5, 0.0, "grasp 0.000 20")]
)
def test_the_first_command_that_leaves_the_one_of_arming_moves_the_hand_whatever_that_was(
    driver, double, first, then, done
):
    for share in (first, first + 0.04, first - 0.04, first):    # e.g. it holds something
        follow(driver, goal_with(driver, share), 0.1)
    assert double.ask()["hand"] == []
    follow(driver, goal_with(driver, then), 10.0, lambda: double.ask()["hand"])
    assert double.ask()["hand"] == [done]


def test_arming_does_not_move_the_hand(driver, double):
    follow(driver, goal_with(driver, 0.1), 0.3)    # e.g. it holds something
    assert double.ask()["hand"] == []


def test_what_the_hand_was_told_last_is_known_to_whoever_arms_the_arm_anew_until_it_has_failed(driver, double):
    assert np.isnan(driver.held()).all()
    follow(driver, goal_with(driver, 0.1), 0.1)
    held = driver.held()
    assert held[7] == 0.1 and np.isnan(held[:7]).all()
    driver.stop()
    assert driver.held()[7] == 0.1
    goal = goal_with(driver, 0.1)
    double.say("reflex joint_reflex")
    fails_with(driver, goal, "joint_reflex")
    wait_until(lambda: recovered(driver))
    assert np.isnan(driver.held()).all()


@pytest.mark.parametrize(("fault", "words"), [("fails", "Command failed"), ("silent", "the hand at")])
def test_a_hand_that_fails_is_named_and_connected_to_anew(driver, double, fault, words):
    follow(driver, goal_with(driver, 1.0), 0.1)
    double.say(f"hand {fault}")
    hand_fails_with(driver, goal_with(driver, 0.0), words)
    double.say("hand ok")
    wait_until(lambda: recovered(driver))
    before = double.ask()["hand"]
    follow(driver, goal_with(driver, 0.9), 0.3)
    assert double.ask()["hand"] == before


def recovered(driver):
    try:
        driver.recover()
    except DriverError:
        return False
    return True


def test_a_hand_that_never_ends_its_motion_is_named(driver, double, monkeypatch):
    from franka_driver import hand

    monkeypatch.setattr(hand, "MOVE_WITHIN", 0.3)
    follow(driver, goal_with(driver, 1.0), 0.1)
    double.say("hand hangs")
    hand_fails_with(driver, goal_with(driver, 0.0), "did not end within")
