# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver against the double: the vendor's library and the network protocol are the real ones."""

import json
import pickle
import time

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.driver import DriverError

HOME = np.array([0.0, -0.6283, 0.0, -2.5133, 0.0, 1.8850, 0.0])
PERIOD = 0.01    # [s]


def follow(driver, goal, seconds, until=lambda: False):
    """Sends one goal a hundred times a second, once at least; returns the last state."""
    deadline = time.monotonic() + seconds
    while True:
        driver.write(goal)
        state = driver.read()
        time.sleep(PERIOD)
        if time.monotonic() > deadline or until():
            return state


def moving(driver):
    """Has the arm on its way; returns the goal it has."""
    goal = driver.read().positions
    for _ in range(30):
        goal = goal.copy()
        goal[0] += 0.003
        driver.write(goal)
        driver.read()
        time.sleep(PERIOD)
    return goal


def fails_with(driver, goal, words):
    """Setpoints end in an error of these words, within a time that a busy machine keeps, too; it is told again and
    again."""
    with pytest.raises(DriverError, match=words):
        follow(driver, goal, 20.0)
    for call in (driver.read, driver.stop, driver.guide, lambda: driver.write(goal)):
        with pytest.raises(DriverError, match=words):
            call()


def hand_fails_with(driver, goal, words):
    """As fails_with; only setpoints are taken still, for a ramp to rest."""
    with pytest.raises(DriverError, match=words):
        follow(driver, goal, 20.0)
    for call in (driver.read, driver.stop, driver.guide):
        with pytest.raises(DriverError, match=words):
            call()


def ramps_down(driver, double, goal):
    """After the hand has failed setpoints move the arm still, and nothing does when their time is over."""
    for _ in range(5):
        goal[0] += 0.002
        driver.write(goal)
        time.sleep(PERIOD)
    assert double.ask()["moving"]
    wait_until(lambda: "the hand at" in refuses(driver, goal))
    wait_until(lambda: not double.ask()["moving"])
    assert "the hand at" in refuses(driver, goal) and not double.ask()["moving"]


def refuses(driver, goal):
    try:
        driver.write(goal)
    except DriverError as error:
        return str(error)
    return ""


def test_connecting_moves_nothing_and_reads_where_the_arm_is(driver, double):
    state = driver.read()
    assert np.allclose(state.positions[:7], HOME, atol=2e-3)
    assert state.positions[7] == pytest.approx(1.0, abs=0.01)
    assert abs(time.time_ns() - state.stamp_ns) < 2e9
    seen = double.ask()
    assert not seen["moving"] and seen["hand"] == [] and seen["clients"] == 1


def test_the_arm_follows_setpoints(driver, double):
    goal = driver.read().positions
    target = goal.copy()
    target[[0, 3]] += [0.2, 0.15]
    for share in np.linspace(0, 1, 150):
        driver.write(goal + share * (target - goal))
        driver.read()
        time.sleep(PERIOD)
    state = follow(driver, target, 10.0, lambda: bool(np.abs(driver.read().positions - target)[:7].max() < 0.02))
    assert np.abs(state.positions - target)[:7].max() < 0.03
    assert np.allclose(double.ask()["positions"], state.positions[:7], atol=0.02)


def test_a_driver_can_be_sent_to_another_process_before_it_connects(make_driver):
    assert pickle.loads(pickle.dumps(make_driver("127.0.0.1")))


def test_where_setpoints_cease_the_robots_own_controller_holds_and_the_next_one_goes_on(driver, double):
    goal = moving(driver)
    assert double.ask()["moving"]
    wait_until(lambda: driver.read() is not None and not double.ask()["moving"])
    there = np.array(double.ask()["positions"])
    assert np.abs(there - goal[:7]).max() < 0.05
    state = follow(driver, driver.read().positions, 0.3)
    assert double.ask()["moving"]
    assert np.abs(state.positions[:7] - there).max() < 0.03


def test_stop_ends_the_motion_where_the_arm_is(driver, double):
    moving(driver)
    before = driver.read().positions
    driver.stop()
    wait_until(lambda: driver.read() is not None and not double.ask()["moving"])
    assert np.abs(driver.read().positions - before)[:7].max() < 0.05


def test_a_guided_arm_yields_and_is_held_where_it_then_is(driver, double):
    follow(driver, driver.read().positions, 0.2)
    driver.guide()
    before = driver.read().positions
    double.say("push 3 4.0")
    wait_until(lambda: abs(driver.read().positions[3] - before[3]) > 0.1)
    double.say("push 3 0")
    here = driver.read().positions
    state = follow(driver, here, 1.0)
    assert np.abs(state.positions - here)[:7].max() < 0.15
    assert abs(state.positions[3] - before[3]) > 0.05


def test_a_setpoint_outside_the_robots_limits_is_not_sent(driver, double):
    goal = driver.read().positions
    goal[3] = 0.5
    with pytest.raises(DriverError, match="joint 4 is 0.5000 rad, outside the robot's limits"):
        driver.write(goal)
    assert not double.ask()["moving"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_setpoint_that_is_no_number_is_not_sent(driver, double, bad):
    goal = driver.read().positions
    goal[2] = bad
    with pytest.raises(DriverError, match="finite numbers; nothing was sent"):
        driver.write(goal)
    assert not double.ask()["moving"]


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("joint_reflex", "torque_thresholds"),
        ("cartesian_reflex", "force_thresholds"),
        ("communication_constraints_violation", "cable of their own"),
        ("joint_position_limits_violation", "Desk, programming mode"),
        ("controller_torque_discontinuity", "stiffness"),
    ],
)
def test_a_reflex_is_named_and_stays_until_an_operator_has_the_robot_recover(driver, double, name, mend):
    goal = moving(driver)
    double.say(f"reflex {name}")
    fails_with(driver, goal, f"(?s){name}.*{mend}")
    assert double.ask()["recoveries"] == 0
    driver.recover()
    assert double.ask()["recoveries"] == 1 and not double.ask()["moving"]
    here = driver.read().positions
    assert np.abs(follow(driver, here, 0.3).positions - here)[:7].max() < 0.03


def test_a_robot_that_does_not_recover_says_so(driver, double):
    goal = moving(driver)
    double.say("by_hand on")
    double.say("reflex joint_reflex")
    fails_with(driver, goal, "joint_reflex")
    with pytest.raises(DriverError, match="manual error recovery"):
        driver.recover()
    with pytest.raises(DriverError, match="joint_reflex"):
        driver.read()


def test_the_user_stop_is_named_and_recovery_waits_for_its_release(driver, double):
    goal = moving(driver)
    double.say("user_stop")
    fails_with(driver, goal, "user stop is pressed")
    told = []

    def refused():
        """Whether it was; a busy machine takes longer than one request."""
        with pytest.raises(DriverError) as error:
            driver.recover()
        told.append(str(error.value))
        return "still recovering" not in told[-1]

    wait_until(refused)
    assert "user stop is pressed" in told[-1]
    double.say("release")
    driver.recover()
    assert not double.ask()["moving"]
    driver.read()


def test_commands_that_are_lost_end_the_motion_by_name(driver, double):
    goal = moving(driver)
    double.say("drop on")
    fails_with(driver, goal, "communication_constraints_violation")


def test_a_poor_success_rate_is_named_before_the_robot_gives_up(driver, double):
    goal = moving(driver)
    double.say("rate 0.6")
    fails_with(driver, goal, "only 60 % of the commands")


@pytest.mark.parametrize("fault", ["silent on", "hang_up"])
def test_a_robot_that_falls_silent_is_named_and_connected_to_anew(driver, double, fault):
    goal = moving(driver)
    double.say(fault)
    fails_with(driver, goal, "has sent no state|connection to the robot")
    double.say("silent off")
    wait_until(lambda: recovers(driver))
    assert not double.ask()["moving"]
    here = driver.read().positions
    assert np.abs(follow(driver, here, 0.3).positions - here)[:7].max() < 0.03


def test_when_the_hand_fails_setpoints_bring_the_arm_to_rest_and_nothing_moves_it_when_their_time_is_over(
    driver, double
):
    goal = moving(driver)
    double.say("hand silent")
    hand_fails_with(driver, goal, "the hand at")
    ramps_down(driver, double, goal)


def test_an_arm_that_is_guided_when_the_hand_fails_is_held_at_once(driver, double):
    follow(driver, driver.read().positions, 0.2)
    driver.guide()
    double.say("hand silent")
    wait_until(lambda: _fails(driver))
    assert "the hand at" in refuses(driver, driver._session._positions.tolist() + [1.0])
    wait_until(lambda: not double.ask()["moving"])


def _fails(driver):
    try:
        driver.read()
    except DriverError:
        return True
    return False


@pytest.mark.parametrize(("fault", "cured"), [("silent on", "silent off"), ("freeze on", "freeze off")])
def test_a_robot_whose_client_hears_nothing_new_stops_by_itself_and_says_so_when_it_is_heard_again(
    driver, double, fault, cured
):
    goal = moving(driver)
    double.say("trail")
    double.say(fault)
    wait_until(lambda: not double.ask()["moving"])
    wait_until(lambda: np.abs(double.ask()["velocities"]).max() < 5e-3)
    went = [row["positions"][0] for row in json.loads(double.say("trail"))["seen"]]
    assert len(went) > 2 and np.ptp(went) < 0.1    # at 0.3 rad/s; with the last torque it would go on for ever
    with pytest.raises(DriverError):
        follow(driver, goal, 20.0)
    double.say(cured)
    wait_until(lambda: recovers(driver))
    assert not double.ask()["moving"]


def recovers(driver):
    try:
        driver.recover()
    except DriverError:
        return False
    return True


def test_a_robot_that_is_switched_off_is_named_and_stays_so(driver, double):
    goal = moving(driver)
    double.kill()
    fails_with(driver, goal, "has sent no state|connection to the robot")
    with pytest.raises(DriverError):
        driver.recover()
    began = time.monotonic()
    with pytest.raises(DriverError):
        driver.read()
    assert time.monotonic() - began < 0.5    # a second is what asking a dead robot would take


def test_closing_leaves_the_arm_to_the_robot(driver, double):
    moving(driver)
    driver.close()
    wait_until(lambda: not double.ask()["moving"])
    with pytest.raises(DriverError, match="not connected"):
        driver.read()
