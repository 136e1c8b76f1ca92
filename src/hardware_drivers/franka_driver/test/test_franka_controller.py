# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The controller's own process moves the double: what a fault of the robot comes to, and what an operator can do."""

import dataclasses
import functools
import inspect
import os
import re
import signal
import threading
import time

import numpy as np
import pytest
from robot_double import wait_until

from arm_controller.controller_state import Fault, State
from arm_controller.core_client import CoreClient
from arm_controller.driver import DriverError
from arm_controller.setpoint_process import Settings
from franka_driver.driver import create

STARVED = 0.3    # [s] without processor time, after which the double is a silent robot
AWAY = 0.6    # [rad] that joint 1 goes from where the double stands to the home of these tests


class Starved(AssertionError):
    """The double had no processor time, and so was a silent robot."""


class Arm:
    """A controller's setpoint process, with a node that says that it is there."""

    def __init__(self, contract, double, **options):
        joints = dict(contract.joints)
        first = contract.arm("arm").joints[0]
        joints[first] = dataclasses.replace(joints[first], home=AWAY)
        contract = dataclasses.replace(contract, joints=joints)
        arm = contract.arm("arm")
        driver = create(contract, arm, {"host": double.host, "realtime": "ignore", **options})
        settings = Settings(contract, arm, driver, False, False, (), "splice", "hold")
        self.double = double
        self.core = CoreClient(settings, lambda: None, lambda _: None)
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self):
        while not self._ended.wait(0.1):
            self.core.tell("alive")

    @property
    def now(self):
        return self.core.snapshot

    def ask(self, verb):
        done, text = self.core.operate(verb)
        assert done, text

    def refused(self, verb):
        done, text = self.core.operate(verb)
        assert not done
        return text

    def until(self, what):
        """Waits. A double that got no processor time fell silent, which is a fault by right, but not the one that is
        tried."""
        try:
            wait_until(what)
        except TimeoutError:
            self.not_starved()
            raise AssertionError(f"what was waited for did not come; {self.now.reason}") from None

    def not_starved(self):
        if self.double.process.poll() is None and (pause := self.double.ask()["pause"]) > STARVED:
            raise Starved(f"this machine is too busy: the double had no processor time for {pause:.1f} s; free it")

    def begin_moving(self):
        self.ask("arm")
        self.ask("home")
        self.until(lambda: self.now.state == State.FAULT or self.now.measured[0] > 0.05)
        if self.now.state == State.FAULT:
            self.not_starved()
        assert self.now.state == State.FOLLOWING, self.now.reason

    def fails_with(self, words):
        self.until(lambda: self.now.state == State.FAULT)
        if not re.search(words, self.now.fault_text):
            self.not_starved()
        assert re.search(words, self.now.fault_text)

    def close(self):
        self._ended.set()
        self.core.close()


@pytest.fixture
def start_arm(contract, double):
    """Starts the controller of the double, as at the start; the one before is ended."""
    arms = []

    def start():
        for arm in arms:
            arm.close()
        if arms:
            double.say("reset")
        arms.append(Arm(contract, double))
        return arms[-1]

    yield start
    for arm in arms:
        arm.close()


def twice(test):
    """Gives a test its `arm`, and tries it once more where the double had no processor time."""
    given = inspect.signature(test).parameters
    others = [parameter for name, parameter in given.items() if name != "arm"]

    @functools.wraps(test)
    def tried(start_arm, **arguments):
        try:
            test(start_arm(), **arguments)
        except Starved:
            test(start_arm(), **arguments)

    start_arm_ = inspect.Parameter("start_arm", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    tried.__signature__ = inspect.Signature([start_arm_, *others])
    return tried


@pytest.mark.parametrize("starved", [0, 1, 2])
def test_a_double_without_processor_time_is_tried_once_more_and_is_a_failure_then(starved):
    arms = []

    @twice
    def trial(arm):
        if len(arms) <= starved:
            raise Starved

    def tried():
        trial(lambda: arms.append("an arm"))

    if starved == 2:
        with pytest.raises(Starved):
            tried()
    else:
        tried()
    assert len(arms) == min(starved + 1, 2)


def rests(double):
    """Where the robot is, once it rests."""
    wait_until(lambda: np.abs(double.ask()["velocities"]).max() < 5e-3)
    return np.array(double.ask()["positions"])


@twice
def test_an_armed_arm_moves_home_and_disarmed_the_robot_holds_by_itself(arm):
    assert not arm.double.ask()["moving"]
    arm.begin_moving()
    arm.until(lambda: abs(arm.now.measured[0] - AWAY) < 0.02)
    arm.ask("disarm")
    arm.until(lambda: arm.now.state == State.DISARMED)
    arm.until(lambda: not arm.double.ask()["moving"])
    assert abs(rests(arm.double)[0] - AWAY) < 0.05


@pytest.mark.parametrize(
    ("fault", "cured", "words"),
    [
        ("reflex joint_reflex", None, "joint_reflex"),
        ("reflex cartesian_reflex", None, "cartesian_reflex"),
        ("drop on", "drop off", "communication_constraints_violation"),
        ("user_stop", "release", "user stop is pressed"),
        ("brakes", "release", "joints are locked"),
        ("hang_up", None, "connection to the robot|sent no state"),
        ("silent on", "silent off", "connection to the robot|sent no state|has stood for"),
        ("rate 0.5", "rate 1.0", "only 50 % of the commands"),
        ("hand silent", "hand ok", "the hand at"),
    ],
)
@twice
def test_a_fault_in_motion_is_named_and_latched_and_an_operator_goes_on_from_where_the_arm_is(arm, fault, cured, words):
    arm.begin_moving()
    arm.double.say(fault)
    arm.fails_with(words)
    assert arm.now.fault in (Fault.DRIVER, Fault.STATE_STALE)
    there = rests(arm.double)
    assert "clear_fault" in arm.refused("arm")
    if cured:
        arm.double.say(cured)
    arm.until(lambda: arm.core.operate("clear_fault")[0])
    arm.until(lambda: arm.now.state == State.DISARMED)
    assert np.abs(np.array(arm.double.ask()["positions"]) - there).max() < 0.02
    assert not arm.double.ask()["moving"]
    arm.until(lambda: arm.core.operate("arm")[0])
    arm.ask("home")
    arm.until(lambda: abs(arm.now.measured[0] - AWAY) < 0.05)


@twice
def test_states_that_repeat_themselves_are_a_fault(arm):
    arm.begin_moving()
    arm.double.say("freeze on")
    arm.fails_with("sent no state|has stood for")
    assert arm.now.fault in (Fault.DRIVER, Fault.STATE_STALE)


@twice
def test_while_its_cause_is_there_a_fault_cannot_be_cleared(arm):
    arm.begin_moving()
    arm.double.say("user_stop")
    arm.fails_with("user stop is pressed")
    arm.until(lambda: arm.now.at_rest)
    assert "user stop is pressed" in arm.refused("clear_fault")
    assert arm.now.state == State.FAULT


@twice
def test_a_robot_that_is_switched_off_in_motion_is_named_and_latched(arm):
    arm.begin_moving()
    arm.double.kill()
    arm.fails_with("robot at|has stood for")
    wait_until(lambda: "cannot be reached" in arm.refused("clear_fault") or "refuses" in arm.refused("clear_fault"))


@twice
def test_a_controller_that_is_killed_leaves_the_arm_at_rest(arm, double):
    arm.begin_moving()
    os.kill(arm.core._process.pid, signal.SIGKILL)
    wait_until(lambda: not double.ask()["moving"])
    there = rests(double)
    assert there[0] < AWAY - 0.05
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        assert np.abs(np.array(double.ask()["positions"]) - there).max() < 0.02


def test_a_robot_that_cannot_be_connected_is_an_error_of_the_start(contract, double):
    double.say("user_stop")
    with pytest.raises(DriverError, match="user stop is pressed"):
        Arm(contract, double)
    assert not double.ask()["moving"]
