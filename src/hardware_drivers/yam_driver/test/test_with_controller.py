# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The driver under its controller: an arm that a person has led is taken back where it then is."""

import time
from dataclasses import replace

import numpy as np
import pytest

from arm_controller.controller import ArmController
from arm_controller.controller_state import Fault, State
from arm_controller.driver import DriverError
from arm_controller.moves import slow_move
from arm_controller.operating import Operator
from yam_driver.double import Status

VERBS = ("stop", "pause", "resume")


class Controlled:
    """One controller on its driver, ticked on one clock that jumps over no time."""

    def __init__(self, contract, driver):
        self.controller = ArmController(contract, contract.arm("left"), driver, shadow=False)
        self.operator = Operator(self.controller, self._clocks)

    @staticmethod
    def _clocks():
        return time.monotonic_ns(), time.time_ns()

    def tick(self):
        self.controller.tick(*self._clocks())

    @property
    def fault(self):
        return self.controller.state.fault_text


@pytest.fixture
def controlled(double, driver, contract, monkeypatch):
    # Time that this machine does not give us is no fault here, nor is an arm that lags: its time is that of the bus.
    contract = replace(contract, joint_state_timeout=1000.0, tracking_time=1000.0)
    for name in ("TIMER_LATE", "PAUSE"):
        monkeypatch.setattr(f"arm_controller.controller.{name}", 1000.0)
    monkeypatch.setattr("arm_controller.clock.JUMP", 1000.0)
    held = Controlled(contract, driver)
    held.tick()
    held.operator.arm()
    held.tick()
    assert held.controller.state.state == State.HOLDING
    return held


def commands_of(double, number, begun):
    """Positions and stiffnesses that motor `number` was commanded since `begun` frames."""
    sent = [data for to, data in double.frames[begun:] if to == number and data[:7] != b"\xff" * 7]
    return [(command.pos, command.kp) for command in map(double.motor(number).meant, sent)]


@pytest.mark.parametrize("led", [0.2, 0.8])
@pytest.mark.parametrize("verb", VERBS)
def test_an_arm_that_was_led_by_hand_is_taken_back_where_it_is(controlled, double, driver, until, led, verb):
    controlled.operator.hand_guide()
    until(lambda: double.motor(1).command.kp == 0)
    hand = double.positions()
    hand[0] += led

    def held_there() -> bool:    # a hand that lets go would see it sag
        double.place(hand)
        return abs(driver.read().positions[0] - led) < 0.05

    until(held_there)
    controlled.tick()
    begun = len(double.frames)
    getattr(controlled.operator, verb)()
    controlled.tick()
    until(lambda: double.motor(1).command.kp > 0)
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 70)
    controlled.tick()
    assert not controlled.fault and controlled.controller.state.state == State.HOLDING
    stiff = [position for position, kp in commands_of(double, 1, begun) if kp > 0]
    assert stiff and np.abs(np.array(stiff) - led).max() < 0.06
    assert double.positions()[0] == pytest.approx(led, abs=0.06)


def test_time_for_parking_a_hot_arm_begins_when_the_fault_is_cleared(controlled, double, driver, until, monkeypatch):
    double.motor(3).mos = 71.0
    until(lambda: controlled.tick() or controlled.fault)
    assert controlled.controller.state.fault == Fault.DRIVER and "clear the fault" in controlled.fault
    # However long the operator takes to come.
    monkeypatch.setattr("yam_driver.troubles.GRACE", 3600.0)
    monkeypatch.setattr("yam_driver.troubles.SHOWN", 0.0)
    until(lambda: controlled.tick() or controlled.controller.at_rest)
    cycled = driver._loop._cycled
    until(lambda: driver._loop._cycled > cycled)
    controlled.tick()
    assert controlled.fault
    controlled.operator.clear_fault()
    controlled.operator.arm()
    cycled = driver._loop._cycled
    until(lambda: driver._loop._cycled > cycled)
    controlled.tick()
    assert not controlled.fault and controlled.controller.state.state == State.HOLDING
    monkeypatch.setattr("yam_driver.troubles.GRACE", 0.0)
    until(lambda: controlled.tick() or "is at 71 degC" in controlled.fault)


@pytest.fixture
def moving(controlled, driver, until, monkeypatch):
    """In the middle of a move of joint 0 at its limit of speed; every setpoint of it that the driver has taken."""
    controller, taken = controlled.controller, []
    take = driver._loop.set_target
    monkeypatch.setattr(driver, "_max_step", np.full(7, 10.0))    # a loop without processor time lags
    monkeypatch.setattr(driver._loop, "set_target", lambda wanted: taken.append(wanted[0]) or take(wanted))
    target = controller.command.copy()
    target[0] += 1.2
    velocity = 10 * controller.contract.values("velocity", controller.arm_spec.joints)
    controller.follow_own(slow_move(controller.command, target, velocity, controller.now), "moving")
    until(lambda: controlled.tick() or driver._loop.command[0] > 0.3)
    return taken


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda motor: motor.fail(Status.OVERLOAD), "motor 4 (left_joint_3) reports overload"),
        (lambda motor: setattr(motor, "rotor", 71.0), "is at 71 degC"),
    ],
)
def test_a_fault_in_motion_that_leaves_motors_holding_lets_them_ramp_down_to_rest(
    controlled, moving, double, driver, until, monkeypatch, spoil, named
):
    for name in ("loop.RAMP", "troubles.SHOWN"):
        monkeypatch.setattr(f"yam_driver.{name}", 3600.0)
    spoil(double.motor(4))
    until(lambda: controlled.tick() or controlled.fault)
    assert named in controlled.fault
    before = len(moving)
    until(lambda: controlled.tick() or controlled.controller.command is None)
    steps = np.diff(moving[before - 2:])
    assert len(steps) > 5 and steps[0] > 0 and steps[-1] < 0.1 * steps.max()
    until(lambda: driver._loop.command[0] == pytest.approx(moving[-1]))
    count = len(double.frames)
    until(lambda: len(double.frames) > count + 28)
    assert double.motor(1).status == Status.ON and double.motor(1).command.pos == pytest.approx(moving[-1], abs=1e-3)


def test_nothing_is_moved_any_more_when_the_time_of_the_ramp_is_over(
    controlled, moving, double, driver, until, monkeypatch
):
    monkeypatch.setattr("yam_driver.loop.RAMP", 0.0)
    double.motor(3).mos = 71.0
    until(lambda: controlled.tick() or controlled.fault)
    with pytest.raises(DriverError, match="is at 71 degC"):
        driver.write(driver._loop.command)


def test_without_an_answer_of_any_motor_no_setpoint_is_taken(controlled, double, driver, until, monkeypatch):
    monkeypatch.setattr("yam_driver.loop.RAMP", 3600.0)
    double.adapter.drop = 1.0
    until(lambda: driver._loop._trouble)
    with pytest.raises(DriverError, match="no motor on"):
        driver.write(driver._loop.command)
    double.adapter.drop = 0.0
    until(lambda: not driver._loop._trouble)
