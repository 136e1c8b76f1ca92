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
from so101_driver import watch
from so101_driver.calibration import MOTORS
from so101_driver.protocol import WRITE
from so101_driver.registers import MIN_POSITION, OVERLOAD, OVERLOAD_TORQUE, PROTECTION_TIME, TORQUE_ENABLE

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
    "volts 1 4.2": "4.2 V",
}
LIMP = ("power_off", "limp 2", "overload 4", "heat 2 80")    # the device itself takes torque away
MENDS = {
    "unplug": ["replug"], "power_off": ["power_on"], "overload 4": [],
    "heat 2 68": ["heat 2 40"], "heat 2 80": ["heat 2 40", "power_off", "power_on"], "volts 1 4.2": ["volts 1 7.4"],
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
        # A busy machine makes no difference: what the device took is a fault of its own elsewhere.
        self.controller = ArmController(
            rig.contract, rig.contract.arm("arm"), rig.driver, shadow=shadow, stopwatch=clock.monotonic
        )
        self.operator = Operator(self.controller, lambda: (clock.steady_ns, clock.ros_ns))

    @property
    def state(self):
        return self.controller.state

    def tick(self) -> bool:
        self._clock.go_on()
        self.controller.tick(self._clock.steady_ns, self._clock.ros_ns)
        return True

    @property
    def now(self) -> float:
        return self._clock.monotonic()

    def until(self, holds):
        until(lambda: self.tick() and holds(), lambda: f"{self.state.state.name}: {self.state.reason}")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("so101_driver.driver.time", clock)
    return clock


@pytest.fixture
def rig(contract, clock, tmp_path):
    rig = Rig(contract, str(tmp_path / "bus"), clock=clock.monotonic)
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


@pytest.mark.parametrize("command", ["silent 3", "unplug", "volts 1 4.2"])
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
    assert np.abs(controlled.rig.driver.read().positions - rest)[:5].max() < 0.02    # the joints
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


# --- in motion --------------------------------------------------------------------------------------------------------
@pytest.fixture
def moving(controlled):
    """On its way to the rest pose, at speed."""
    controlled.operator.park()
    controlled.until(lambda: controlled.controller.rate == 1.0)
    return controlled


def test_a_servo_that_loses_its_torque_in_motion_stays_limp_until_an_operator_has_cleared_that_and_armed(moving):
    moving.rig.spoil("limp 2")
    moving.until(lambda: moving.state.state == State.FAULT)
    for _ in range(300):
        moving.tick()
        assert not moving.rig.bus.servo(2).torque
    assert moving.rig.torques.count(False) == 1
    moving.operator.clear_fault()
    for _ in range(20):
        moving.tick()
    assert not moving.rig.bus.servo(2).torque
    moving.operator.arm()
    moving.until(lambda: all(moving.rig.torques))


def test_an_arm_whose_positions_are_not_read_any_more_stops_at_its_last_goals(moving):
    moving.rig.spoil("silent 3")
    moving.until(lambda: moving.state.state == State.FAULT)
    goals = moving.rig.goals
    for _ in range(20):
        moving.tick()
    assert moving.rig.goals == goals and all(moving.rig.torques)
    assert moving.controller.at_rest


def test_an_arm_that_is_not_well_but_seen_ramps_to_rest_within_its_limits(moving):
    sent = [moving.rig.driver.held()]
    moving.rig.spoil("heat 2 68")
    moving.until(lambda: moving.state.state == State.FAULT)
    for _ in range(100):
        moving.tick()
        sent.append(moving.rig.driver.held())
    steps = np.abs(np.diff(np.array(sent), axis=0)).max(axis=1) * 1e9 / TICK_NS
    assert np.abs(np.diff(steps)).max() * 1e9 / TICK_NS < 1.5 * moving.rig.contract.values("acceleration", MOTORS).max()
    assert steps[0] > 0 and steps[-1] == 0


def test_a_hot_arm_is_stopped_and_can_then_be_parked_and_released(moving):
    moving.rig.spoil("heat 2 68")
    moving.until(lambda: moving.state.state == State.FAULT and moving.controller.at_rest)
    moving.operator.clear_fault()
    moving.operator.arm()
    moving.operator.park()
    moving.until(lambda: moving.state.state != State.FOLLOWING)
    assert moving.state.reason == "reached rest"
    moving.operator.disarm()
    moving.until(lambda: moving.state.state == State.DISARMED)
    moving.rig.driver.release()
    assert not any(moving.rig.torques)


def test_an_arm_that_stays_hot_for_longer_than_it_was_given_to_park_is_stopped_again(moving, monkeypatch):
    monkeypatch.setattr(watch, "PARKING", 3.0)
    moving.rig.spoil("heat 2 68")
    moving.until(lambda: moving.state.state == State.FAULT and moving.controller.at_rest)
    moving.operator.clear_fault()
    moving.operator.arm()
    given = moving.now + 3.0
    moving.until(lambda: moving.state.state == State.FAULT)
    assert moving.now >= given and "68 deg C" in moving.state.fault_text


def test_heat_that_comes_after_another_fault_was_cleared_has_no_time_to_park(controlled):
    controlled.rig.spoil("volts 1 4.2")
    controlled.until(lambda: controlled.state.state == State.FAULT)
    controlled.rig.spoil("volts 1 7.4")
    controlled.operator.clear_fault()
    controlled.tick()
    controlled.rig.spoil("heat 2 68")
    controlled.tick()
    assert "68 deg C" in controlled.state.fault_text


# --- in a hand --------------------------------------------------------------------------------------------------------
def test_an_arm_whose_servo_is_silent_for_a_moment_while_guided_is_no_longer_in_the_hand(controlled):
    controlled.operator.hand_guide()
    controlled.tick()
    controlled.rig.spoil("silent 3")
    controlled.tick()
    controlled.rig.spoil("ok")
    assert controlled.state.state == State.FAULT
    goals = controlled.rig.goals
    controlled.rig.plant.held.add(0)
    controlled.rig.plant.push(0, 0.6)
    for _ in range(50):
        controlled.tick()
    assert controlled.rig.goals == goals and all(controlled.rig.torques)


# --- what the gripper holds -------------------------------------------------------------------------------------------
@pytest.fixture
def holding(controlled):
    """Its jaws are closed on a cube."""
    rig = controlled.rig
    rig.plant.blocked.add(MOTORS.index("gripper"))
    rig.driver.write(np.append(rig.driver.read().positions[:5], 0.0))
    rig.driver.read()    # goals are not answered: what is answered after them has been after them
    assert rig.goals[5] == rig.bus.servo(6).value(MIN_POSITION) < rig.present("gripper") - 100
    controlled.closed = rig.goals[5]
    controlled.controller.hold_here()
    return controlled


def disarmed(controlled):
    controlled.operator.disarm()
    controlled.until(lambda: controlled.state.state == State.DISARMED)


def test_an_arm_that_is_disarmed_and_armed_again_keeps_what_it_holds(holding):
    disarmed(holding)
    holding.operator.arm()
    for _ in range(20):
        holding.tick()
        assert holding.rig.goals[5] == holding.closed


def test_a_fault_and_a_disarm_in_it_keep_what_the_gripper_holds(holding):
    holding.rig.spoil("volts 1 4.2")
    holding.until(lambda: holding.state.state == State.FAULT and holding.controller.at_rest)
    holding.rig.spoil("volts 1 7.4")
    holding.tick()
    holding.operator.disarm()
    assert holding.rig.goals[5] == holding.closed and all(holding.rig.torques)


def test_guiding_an_arm_by_hand_and_taking_it_back_keeps_what_it_holds(holding):
    holding.operator.hand_guide()
    for _ in range(50):
        holding.tick()
    assert holding.rig.goals[5] == holding.closed
    holding.operator.stop()
    for _ in range(20):
        holding.tick()
    assert holding.rig.goals[5] == holding.closed


def test_a_controller_that_takes_over_from_one_that_died_keeps_what_the_gripper_holds(holding, clock):
    holding.rig.driver._servos.close()    # as a kill does: the port closes, nothing is said
    holding.rig.driver = holding.rig.new_driver()
    holding.rig.driver.connect()
    later = Controlled(holding.rig, clock)
    later.tick()
    later.operator.arm()
    for _ in range(20):
        later.tick()
    assert later.state.state == State.HOLDING and holding.rig.goals[5] == holding.closed


def test_a_gripper_that_was_limp_meanwhile_is_armed_where_it_is(holding):
    disarmed(holding)
    holding.rig.spoil("limp 6")
    holding.until(lambda: holding.state.state == State.FAULT)
    holding.rig.plant.blocked.clear()
    holding.rig.plant.push(5, 1.2)
    holding.tick()
    holding.operator.clear_fault()
    holding.operator.arm()
    holding.until(lambda: all(holding.rig.torques))
    assert holding.rig.goals[5] == pytest.approx(holding.rig.present("gripper"), abs=1)


def test_a_cube_is_held_for_five_seconds_without_a_fault_and_dropped_when_the_gripper_opens(holding, caplog):
    for _ in range(500):
        holding.tick()
    assert holding.state.state == State.HOLDING
    assert holding.rig.bus.servo(6).error == OVERLOAD and holding.rig.goals[5] == holding.closed
    assert [r.message for r in caplog.records if "overloaded" in r.message] == [
        "servo 6 (gripper) is overloaded: it goes on holding, with its protective torque only"
    ]
    rig = holding.rig
    rig.driver.write(np.append(rig.driver.read().positions[:5], 0.9))
    rig.driver.read()
    assert rig.bus.servo(6).error == 0 and rig.torques[5]


def test_an_overload_of_a_joint_is_cleared_where_it_is_and_the_arm_never_falls(controlled):
    rig = controlled.rig
    joint = MOTORS.index("wrist_flex")
    rig.plant.blocked.add(joint)
    rig.bus.servo(4).burn(OVERLOAD_TORQUE, 50)    # so that it comes before the watch for current
    rig.bus.servo(4).burn(PROTECTION_TIME, 20)
    controlled.until(lambda: controlled.state.state == State.FAULT)
    assert "wrist_flex) reports: overloaded" in controlled.state.fault_text
    rig.plant.blocked.clear()
    controlled.until(lambda: controlled.controller.at_rest)
    rig.bus.instructions.clear()
    controlled.operator.clear_fault()
    assert all(rig.torques) and rig.bus.servo(4).error == 0
    assert rig.goals[joint] == pytest.approx(rig.present("wrist_flex"), abs=1)
    switched = {s for s, code, data in rig.bus.instructions if code == WRITE and data[0] == TORQUE_ENABLE.address}
    assert switched == {4}
