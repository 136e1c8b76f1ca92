# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A leader's double leads a follower's double through the controller's gate, in the time of a clock that tests turn."""

import numpy as np
import pytest
from arm_rig import Rig, refusal, until

from arm_controller.chunk import Chunk
from arm_controller.controller import ArmController
from arm_controller.controller_state import State
from arm_controller.operating import Operator
from so101_driver.calibration import MOTORS
from so101_driver.double.plants import PointPlant
from so101_driver.leader import LASTS, NEAR, LeaderArm, LeaderPlan, LeaderWatch

TICK = 0.01      # [s]
EACH = 7         # ticks to a plan: about fifteen a second
TAG = "so100_so101_molmoact2"
PAN, ELBOW = MOTORS.index("shoulder_pan"), MOTORS.index("elbow_flex")


class Clock:
    """Both clocks, turned by hand."""

    def __init__(self):
        self.ticks = 0

    def monotonic(self):
        return 5.0 + self.ticks * TICK

    def time_ns(self):
        return 1_800_000_000_000_000_000 + round(self.ticks * TICK * 1e9)


class Led:
    """A follower with its controller, and a leader that sends plans as the node does. withheld: why it sends none."""

    def __init__(self, follower, leader, clock):
        self.follower, self.leader, self._clock = follower, leader, clock
        contract = follower.contract
        arm, self._tag = contract.arm("arm"), contract.norm_tag(TAG)
        # What the device takes on a busy machine is no matter here.
        self.controller = ArmController(contract, arm, follower.driver, shadow=False, stopwatch=clock.monotonic)
        self.operator = Operator(self.controller, lambda: (round(clock.monotonic() * 1e9), clock.time_ns()))
        self.arm = LeaderArm(leader.link, 1_000_000, leader.calibration, "of the test", MOTORS)
        self._plan, self.watch = LeaderPlan(contract, arm, self._tag), LeaderWatch(contract, arm)
        self.withheld, self.accepted, self._sent = "it was not read yet", [], 0
        follower.driver.connect()
        self.controller.hear_policy("process", "episode", clock.monotonic())

    @property
    def state(self):
        return self.controller.state.state

    @property
    def pose(self):
        return self.controller.measured.positions

    def tick(self, times=1):
        for _ in range(times):
            self._clock.ticks += 1
            self.controller.tick(round(self._clock.monotonic() * 1e9), self._clock.time_ns())
            if self._clock.ticks % EACH == 0 and self.state in (State.HOLDING, State.FOLLOWING):
                self._lead()
        return True

    def _lead(self):
        now = self._clock.time_ns() / 1e9
        leader = self.arm.read(self._clock.time_ns()).positions
        led = self.state == State.FOLLOWING and not self.withheld
        if not led:
            self._plan.begin(self.pose, now)
        self.withheld = self.watch.look(leader, self._plan.at, now, now, led)
        if self.withheld:
            return
        self._sent += 1
        waypoints = self._plan.waypoints(leader, now)
        chunk = Chunk(
            self._sent, "episode", now, self._tag.dt, self._tag.first_offset, len(waypoints), MOTORS, waypoints.ravel()
        )
        self.accepted.append(self.controller.accept(chunk, self._clock.monotonic(), now) == "")

    def until(self, holds):
        until(lambda: self.tick() and holds(), lambda: f"{self.state.name}: {self.controller.reason}; {self.withheld}")


@pytest.fixture
def led(contract, tmp_path, monkeypatch):
    """An armed follower at the pose of its leader, which is limp in a hand."""
    clock = Clock()
    monkeypatch.setattr("so101_driver.driver.time", clock)
    follower = Rig(contract, str(tmp_path / "follower"), PointPlant(clock=clock.monotonic))
    leader = Rig(contract, str(tmp_path / "leader"), PointPlant(clock=clock.monotonic))
    led = Led(follower, leader, clock)
    led.tick()
    led.operator.arm()
    yield led
    led.arm.close()
    leader.close()
    follower.close()


def hand(led, joint, angle, over):
    """A hand turns a joint of the leader to an angle, over some seconds."""
    begin, steps = led.leader.plant.angles()[joint], round(over / TICK)
    for step in range(1, steps + 1):
        led.leader.plant.push(joint, begin + (angle - begin) * step / steps)
        led.tick()


def test_a_follower_goes_where_its_leader_is_led_and_every_plan_passes_the_gate(led):
    led.until(lambda: led.state == State.FOLLOWING)
    hand(led, PAN, 0.8, over=2.0)
    hand(led, ELBOW, 0.4, over=1.0)
    led.until(lambda: abs(led.pose[PAN] - 0.8) < 0.02 and abs(led.pose[ELBOW] - 0.4) < 0.02)
    assert all(led.accepted[5:]) and led.controller.state.fault_text == ""


def test_a_leader_far_away_leads_nothing_until_it_is_brought_near(led):
    led.leader.plant.push(PAN, NEAR + 0.3)
    led.tick(200)
    assert led.state == State.HOLDING and "shoulder_pan is 0.80 rad from" in led.withheld
    assert abs(led.pose[PAN]) < 0.01
    hand(led, PAN, 0.2, over=1.0)
    led.until(lambda: abs(led.pose[PAN] - 0.2) < 0.02)


def test_a_leader_that_is_let_go_brings_its_follower_to_rest_where_it_is_and_it_stays(led):
    led.until(lambda: led.state == State.FOLLOWING)
    hand(led, PAN, 0.3, over=1.0)
    hand(led, ELBOW, -1.6, over=0.3)    # it falls
    assert "elbow_flex moved at" in led.withheld
    led.until(lambda: led.state == State.HOLDING)
    there = led.pose.copy()
    led.tick(300)
    assert led.state == State.HOLDING and np.abs(led.pose - there).max() < 0.01
    assert led.pose[ELBOW] > 0.0    # it had not gone far


def test_a_leader_that_is_unplugged_is_named_and_its_follower_comes_to_rest_within_what_it_was_told(led):
    led.until(lambda: led.state == State.FOLLOWING)
    hand(led, PAN, 0.3, over=1.0)
    led.leader.spoil("unplug")
    assert "leader: " in refusal(lambda: led.arm.read(0)) and "has gone" in refusal(lambda: led.arm.read(0))
    led._lead = lambda: None    # as the node: without a reading there is no plan
    led.tick(round((LASTS + 0.5) / TICK))
    assert led.state == State.HOLDING and "ran out of waypoints" in led.controller.reason
