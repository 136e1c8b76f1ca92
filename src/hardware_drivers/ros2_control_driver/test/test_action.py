# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Goals by the action FollowJointTrajectory, over real DDS, against a stand-in that ends them as the real one does."""

import importlib.util
import re
import time

import numpy as np
import pytest
from other_system import PATIENCE, OtherSystem, refused

from arm_controller.driver import DriverError
from molmoact2_contract import load_contract
from ros2_control_driver.driver import create

NAMES = ("a_pan", "a_lift", "a_elbow", "a_flex", "a_roll")
OPTIONS = {
    "joints": ",".join(NAMES), "via": "action", "lead": "0.5",
    "gripper_joint": "a_grip", "gripper_closed": "0.8", "gripper_open": "0.0",
}
SLOW = 0.6         # [rad/s]: an arm that lags by the lead is no farther behind than its contract lets it
PATIENT = 12.0     # [s]; a busy machine discovers slowly
SOON = 0.3         # [s] that all must be well, where nobody is there who should not be
needs_messages = pytest.mark.skipif(
    importlib.util.find_spec("control_msgs") is None, reason="control_msgs is not installed (ros-jazzy-control-msgs)"
)


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """The SO-101's, at speeds for a controller that is given stretches."""
    text = load_contract("so101").path.read_text()
    path = tmp_path_factory.mktemp("contract") / "slow.yaml"
    path.write_text(re.sub(r"velocity: [\d.]+", f"velocity: {SLOW}", text))
    return load_contract(path)


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "85")


@pytest.fixture
def make(contract):
    made = []

    def make_driver(patience=PATIENT, **options):
        made.append(create(contract, contract.arm("arm"), {**OPTIONS, **options}, patience, SOON))
        return made[-1]

    yield make_driver
    for driver in made:
        driver.close()


@pytest.fixture
def start():
    made = []

    def start_one(interface, *options):
        made.append(OtherSystem((*NAMES, "a_grip"), "--interface", interface, *options))
        return made[-1]

    yield start_one
    for system in made:
        system.close()


def follow(driver, path, until):
    """Sends path(t), t the time since the begin [s], at setpoint rate until something holds; returns what fails."""
    began, deadline = time.monotonic(), time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, "it did not come"
        try:
            driver.read()
            driver.write(path(time.monotonic() - began))
        except DriverError as error:
            return str(error)
        time.sleep(0.01)
    return ""


def still(_):
    return np.zeros(6)


def forward(seconds):
    return np.array([min(0.3 * seconds, 0.9), 0, 0, 0, 0, 0.5])


@needs_messages
def test_a_path_is_followed_in_stretches_each_in_the_place_of_the_last(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    assert follow(driver, forward, lambda: driver.read().positions[0] > 0.89) == ""
    assert any(line.startswith("took") for line in heard(system))
    assert not any(line.startswith("refused") for line in system.heard)
    assert driver.read().positions == pytest.approx([0.9, 0, 0, 0, 0, 0.5], abs=0.02)


@needs_messages
def test_goals_are_not_sent_at_the_rate_of_setpoints(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    assert follow(driver, forward, lambda: any(line == "took 10" for line in heard(system))) == ""
    handed_over = {reading.name: reading.value for reading in driver.health()}["setpoints handed over"]
    assert handed_over > 2 * 10


def heard(system):
    system.say("ask")
    system.until("at")
    return system.heard


@needs_messages
def test_stop_holds_where_the_arm_is(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    assert follow(driver, forward, lambda: driver.read().positions[0] > 0.1) == ""
    driver.stop()
    there = driver._measured.positions[0]
    system.until("ended reached")
    assert system.positions()[0] == pytest.approx(there, abs=1e-6)


@needs_messages
def test_a_goal_that_is_refused_is_named(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    system.say("deactivate")
    text = follow(driver, still, lambda: False)
    assert "joint_trajectory_controller refused a goal" in text and "not active" in text


@needs_messages
def test_an_arm_that_is_held_up_ends_in_the_controllers_own_words_and_code(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    system.say("block")
    text = follow(driver, forward, lambda: False)
    assert "PATH_TOLERANCE_VIOLATED (-4): Aborted due to path tolerance violation" in text
    with pytest.raises(DriverError, match="PATH_TOLERANCE_VIOLATED"):
        driver.write(np.zeros(6))


@needs_messages
def test_a_goal_that_another_program_takes_away_is_named(start, make):
    system = start("action")
    driver = make()
    driver.connect()
    # Whether the newest goal is known to be taken just then is chance: goals are taken away until one was.
    text = follow(driver, still, lambda: bool(system.say("give_up")))
    assert "another program" in text


@needs_messages
def test_auto_takes_the_topic_where_there_is_one_and_the_action_where_there_is_none(start, make):
    driver = make(via="auto", lead="0.4")
    system = start("both")
    driver.connect()
    assert follow(driver, still, lambda: any(line.startswith("took") for line in heard(system))) == ""
    assert not any(line.startswith("ended") for line in system.heard)
    driver.close()
    system.close()
    other = start("action")
    second = make(via="auto", lead="0.4")
    second.connect()
    second.write(np.zeros(6))
    other.until("ended reached")


@needs_messages
def test_nobody_who_offers_the_action_is_named(start, make):
    start("topic")
    refused(make, "no controller offers the action joint_trajectory_controller/follow_joint")


@needs_messages
def test_a_lead_by_which_the_arm_would_seem_not_to_follow_is_refused(contract):
    fast = load_contract("so101")
    with pytest.raises(DriverError, match="farther behind than its tracking"):
        create(fast, fast.arm("arm"), OPTIONS)


def test_without_the_messages_the_action_is_refused_with_the_mend_and_nothing_falls_back(contract, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DriverError, match="ros-jazzy-control-msgs.*via=topic"):
        create(contract, contract.arm("arm"), OPTIONS)


def test_an_unknown_way_is_named_with_those_there_are(contract):
    with pytest.raises(DriverError, match="option via is 'service'; it must be one of topic, action, auto"):
        create(contract, contract.arm("arm"), {**OPTIONS, "via": "service"})
