# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The arm controller with this driver on the double, tick by tick.

Each fault of the bus ends in a latched, named state, and the arm is where its servos leave it: holding, unless they
have no power.
"""

import numpy as np
import pytest
from arm_rig import Rig, until

from arm_controller.controller import ArmController
from arm_controller.controller_state import Refused, State
from arm_controller.operating import Operator
from so101_driver.calibration import MOTORS
from so101_driver.double.plants import PointPlant

TICK_NS = 10_000_000

FAULTS = {
    "silent 3": "servo 3 does not answer (elbow_flex)",
    "corrupt 1": "broken frames",
    "drop 1": "does not answer",
    "delay 1": "does not answer",
    "unplug": "has gone",
    "power_off": "power supply",
    "limp 2": "shoulder_lift lost torque",
    "overload 4": "wrist_flex) reports: overloaded",
    "heat 2 68": "68 deg C",
    "heat 2 80": "overheated",
    "volts 1 5": "5.0 V",
}
LIMP = ("power_off", "limp 2", "overload 4", "heat 2 80")    # the device itself takes torque away
MENDS = {
    "unplug": ["replug"], "power_off": ["power_on"], "overload 4": ["power_off", "power_on"],
    "heat 2 68": ["heat 2 40"], "heat 2 80": ["heat 2 40", "power_off", "power_on"], "volts 1 5": ["volts 1 7.4"],
}


class Clock:
    """In place of the driver's time: it goes on by ticks."""

    def __init__(self):
        self.steady_ns, self.ros_ns = 5_000_000_000, 1_800_000_000_000_000_000

    def go_on(self):
        self.steady_ns += TICK_NS
        self.ros_ns += TICK_NS

    def monotonic(self):
        return self.steady_ns / 1e9

    def time_ns(self):
        return self.ros_ns


class Controlled:
    """A controller, and the driver of a rig under it, in the time of a clock."""

    def __init__(self, rig, clock, shadow=False):
        self.rig, self._clock = rig, clock
        self.controller = ArmController(rig.contract, rig.contract.arm("arm"), rig.driver, shadow=shadow)
        self.operator = Operator(self.controller, lambda: (clock.steady_ns, clock.ros_ns))

    @property
    def state(self):
        return self.controller.state

    def tick(self) -> bool:
        self._clock.go_on()
        self.controller.tick(self._clock.steady_ns, self._clock.ros_ns)
        return True

    def until(self, holds):
        until(lambda: self.tick() and holds(), lambda: f"{self.state.state.name}: {self.state.reason}")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("so101_driver.driver.time", clock)
    # A busy machine makes no difference: what the device took is a fault of its own elsewhere.
    monkeypatch.setattr("arm_controller.feedback.time", clock)
    return clock


@pytest.fixture
def rig(contract, clock, tmp_path):
    rig = Rig(contract, str(tmp_path / "bus"), PointPlant(clock=clock.monotonic))
    yield rig
    rig.close()


@pytest.fixture
def controlled(rig, clock):
    rig.driver.connect()
    controlled = Controlled(rig, clock)
    controlled.tick()
    controlled.operator.arm()
    controlled.until(lambda: all(rig.torques))
    return controlled


@pytest.mark.parametrize("command", FAULTS)
def test_a_fault_of_the_bus_latches_is_named_and_leaves_the_arm_to_its_servos(controlled, command):
    goals = controlled.rig.goals
    controlled.rig.spoil(command)
    controlled.until(lambda: controlled.state.state == State.FAULT)
    assert FAULTS[command] in controlled.state.fault_text
    controlled.until(lambda: controlled.controller.at_rest)
    if command in LIMP:
        assert not all(controlled.rig.torques)
    else:
        assert all(controlled.rig.torques)
        assert controlled.rig.goals == pytest.approx(goals, abs=2)

    for mend in MENDS.get(command, ["ok"]):
        controlled.rig.spoil(mend)
    for _ in range(20):
        controlled.tick()
    assert controlled.state.state == State.FAULT    # it does not go on by itself
    torques = controlled.rig.torques

    def cleared():
        try:
            controlled.operator.clear_fault()
        except Refused:
            return False
        return True

    controlled.until(cleared)
    assert controlled.state.state == State.DISARMED and controlled.rig.torques == torques
    controlled.operator.arm()
    controlled.until(lambda: all(controlled.rig.torques))
    assert controlled.state.state == State.HOLDING


@pytest.mark.parametrize("command", ["silent 3", "unplug", "heat 2 68"])
def test_a_fault_is_not_cleared_while_its_cause_is_there(controlled, command):
    controlled.rig.spoil(command)
    controlled.until(lambda: controlled.state.state == State.FAULT and controlled.controller.at_rest)
    with pytest.raises(Refused, match="the cause is still there"):
        controlled.operator.clear_fault()


def test_a_disarmed_arm_holds_and_is_sent_nothing_more(controlled):
    controlled.operator.disarm()
    controlled.until(lambda: controlled.state.state == State.DISARMED)
    controlled.tick()
    goals = controlled.rig.goals
    controlled.rig.plant.push(0, 0.5)
    for _ in range(5):
        controlled.tick()
    assert all(controlled.rig.torques) and controlled.rig.goals == goals


def test_a_parked_arm_may_be_released(controlled):
    rest = controlled.rig.contract.values("rest", MOTORS)
    controlled.operator.park()
    controlled.until(lambda: controlled.state.state == State.HOLDING)
    assert np.abs(controlled.rig.driver.read().positions - rest).max() < 0.02
    controlled.operator.disarm()
    controlled.until(lambda: controlled.state.state == State.DISARMED)
    controlled.rig.driver.release()
    assert not any(controlled.rig.torques)


def test_shadow_sends_no_goal_and_switches_nothing_on(rig, clock):
    rig.driver.connect()
    goals = rig.goals
    shadowed = Controlled(rig, clock, shadow=True)
    shadowed.tick()
    shadowed.operator.arm()
    for _ in range(20):
        shadowed.tick()
    assert rig.goals == goals and not any(rig.torques)
