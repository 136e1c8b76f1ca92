# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Two controllers that hear each other, until one of them dies or faults: the other can still be homed and parked."""

import numpy as np
import pytest
from servo_rig import WAIT, Rig

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault
from arm_controller.peers import PeerStatus


class Pair:
    """Both follow one chunk. dead: the right one says nothing any more."""

    def __init__(self, contract):
        self.left, self.right = Rig(contract, peers=("right",)), Rig(contract, peers=("left",))
        self.dead = False
        self.tick()
        self.left.operator.arm()
        self.right.operator.arm()
        self.tick(WAIT)
        for rig in (self.left, self.right):
            rig.began_ns = rig.ros_ns
            assert rig.accept(rig.chunk(rig.sway())) == ""
        self.tick(10)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self._hear(self.right, "left", self.left)
            if not self.dead:
                self._hear(self.left, "right", self.right)
                self.right.tick()
            self.left.tick()

    @staticmethod
    def _hear(rig: Rig, name: str, said: Rig) -> None:
        state, controller = said.controller.state, said.controller
        status = PeerStatus(
            state.state, state.fault_text, controller.counters.refused, controller.last.refused_id,
            state.waits(said.now),
        )
        rig.controller.hear_peer(name, status, rig.steady)

    def die(self) -> None:
        self.dead = True

    def fault(self) -> None:
        self.right.driver.failure = "the bus is silent"


@pytest.fixture
def pair(contract):
    return Pair(contract)


@pytest.mark.parametrize("unwell", ["die", "fault"])
def test_the_surviving_arm_is_cleared_armed_homed_and_parked_but_follows_no_chunk(pair, unwell):
    left = pair.left
    assert left.state == "FOLLOWING"
    getattr(pair, unwell)()
    pair.tick(200)
    assert left.state == "FAULT" and left.controller.state.fault == Fault.PEER
    left.operator.clear_fault()
    pair.tick(5)
    left.operator.arm()
    pair.tick(WAIT)
    assert left.state == "HOLDING"
    assert "'right' is " in left.accept(left.chunk(left.sway(), 2)) and left.controller.last.refusal == Refusal.PEER
    for verb, pose in (("home", "home"), ("park", "rest")):
        getattr(left.operator, verb)()
        for _ in range(100):
            pair.tick(20)
            if left.state != "FOLLOWING":
                break
        assert left.state == "HOLDING" and f"reached {pose}" in left.controller.reason
        goal = pair.left.contract.values(pose, left.arm.joints)
        np.testing.assert_allclose(left.controller.command[:-1], goal[:-1], atol=0.01)
    parked = np.tile(left.controller.command, (30, 1))
    assert "'right' is " in left.accept(left.chunk(parked, 3)) and left.controller.last.refusal == Refusal.PEER


def test_an_own_move_goes_on_while_the_other_arm_dies(pair):
    pair.left.operator.stop()
    pair.right.operator.stop()
    pair.tick(100)
    pair.left.operator.home()
    pair.die()
    for _ in range(100):
        pair.tick(20)
        if pair.left.state != "FOLLOWING":
            break
    assert pair.left.state == "HOLDING" and "reached home" in pair.left.controller.reason
