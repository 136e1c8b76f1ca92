# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What another arm of the robot does to this one."""

from arm_controller.chunk import Refusal
from arm_controller.controller_state import Fault, State
from arm_controller.peers import PeerStatus


def test_the_fault_of_the_other_arm_stops_this_one(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "motor 3 is hot", 0), rig.steady)
    rig.tick()
    assert rig.controller.state.fault == Fault.PEER and "motor 3 is hot" in rig.controller.state.fault_text


def test_a_refusal_of_the_other_arm_stops_this_one(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.accept(rig.chunk(rig.sway()))
    rig.controller.hear_peer("right", PeerStatus(State.FOLLOWING, "", 1), rig.steady)
    assert rig.state == "STOPPING"


def test_the_silence_of_the_other_arm_stops_one_that_follows_a_chunk(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    assert rig.accept(rig.chunk(rig.sway())) == ""
    rig.tick(100)
    assert rig.controller.state.fault == Fault.PEER and "silent" in rig.controller.state.fault_text


def test_an_arm_that_holds_while_the_other_falls_ill_and_recovers_waits_for_its_operator(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "motor 3 is hot", 0), rig.steady)
    rig.tick()
    assert rig.state == "HOLDING"
    assert "motor 3 is hot" in rig.accept(rig.chunk(rig.sway(), 1)) and rig.controller.last.refusal == Refusal.PEER
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.tick()
    assert "call resume" in rig.accept(rig.chunk(rig.sway(), 2)) and rig.controller.last.refusal == Refusal.RESUME
    rig.operator.resume()
    rig.tick(15)
    assert rig.accept(rig.chunk(rig.sway(), 3)) == ""


def test_an_arm_does_not_move_alone_while_the_other_waits_for_an_operator(make_rig):
    """Both need a resume; the chunk that falls between the two calls moves neither and stops neither."""
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 0, waits=True), rig.steady)
    rig.operator.stop()
    rig.tick(20)
    rig.operator.resume()
    rig.tick(15)
    assert "waits for an operator; call right/resume" in rig.accept(rig.chunk(rig.sway(), 1))
    assert rig.controller.last.refusal == Refusal.PEER
    rig.controller.hear_peer("right", PeerStatus(State.HOLDING, "", 1), rig.steady)
    assert rig.state == "HOLDING" and not rig.controller.state.waits(rig.now)
    assert rig.accept(rig.chunk(rig.sway(), 2)) == ""


def test_one_fault_on_one_arm_is_cleared_arm_by_arm(make_rig):
    rig = make_rig(peers=("right",))
    rig.controller.hear_peer("right", PeerStatus(State.DISARMED, "", 0), rig.steady)
    rig.arm_and_wait()
    rig.driver.failure = "the bus is silent"
    rig.tick(2)
    rig.driver.failure = ""
    rig.controller.hear_peer("right", PeerStatus(State.FAULT, "arm 'arm' is in fault", 0), rig.steady)
    rig.tick()
    rig.operator.clear_fault()
    rig.operator.arm()
    rig.tick()
    assert rig.state == "HOLDING" and "arm 'right' is in fault" in rig.accept(rig.chunk(rig.sway()))


def test_an_arm_whose_peer_was_never_heard_follows_no_chunk(make_rig):
    rig = make_rig(peers=("right",))
    rig.arm_and_wait()
    assert "'right' is silent" in rig.accept(rig.chunk(rig.sway()))
    assert rig.state == "HOLDING" and rig.controller.last.refusal == Refusal.PEER
