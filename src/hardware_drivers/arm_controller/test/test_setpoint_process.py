# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from servo_rig import Rig, ServoArm

from arm_controller.controller_state import Fault, Refused
from arm_controller.driver import ArmState
from arm_controller.messages import cut_off
from arm_controller.setpoint_process import (
    NODE_SILENT,
    PACKET,
    Core,
    Request,
    Settings,
    _hold_on,
    _try_arm,
    run,
    send,
)


@pytest.fixture
def core(rig):
    return Core(rig.controller)


def test_a_request_that_fails_in_itself_is_a_fault_and_the_loop_goes_on(rig, core, wire, monkeypatch):
    monkeypatch.setattr(rig.controller, "accept", lambda *_: 1 / 0)
    send(wire[1], Request("chunk", (None,)))
    assert core.take(wire[0])
    assert rig.controller.state.fault == Fault.INTERNAL
    assert "ZeroDivisionError" in rig.controller.state.fault_text
    wire[1].close()
    assert not core.take(wire[0])


def test_a_packet_that_was_cut_off_is_a_fault_and_the_loop_goes_on(rig, core, wire):
    wire[1].send(pickle.dumps(Request("alive", ()))[:-5])
    assert core.take(wire[0])
    assert rig.controller.state.fault == Fault.INTERNAL


def test_a_message_too_large_is_not_sent_at_all(wire):
    assert not send(wire[1], Request("chunk", (np.zeros(PACKET),)))
    assert send(wire[1], Request("alive", ()))


def test_a_tick_that_fails_in_itself_is_a_fault_and_nothing_is_sent_any_more(rig, core, monkeypatch):
    rig.accept(rig.chunk(rig.sway()))
    rig.tick(10)
    monkeypatch.setattr(rig.controller, "tick", lambda *_: 1 / 0)
    mark = len(rig.driver.sent)
    core.tick()
    assert rig.controller.state.fault == Fault.INTERNAL
    monkeypatch.undo()
    rig.tick(50)
    assert len(rig.driver.sent) == mark


def test_an_arm_whose_node_is_silent_comes_to_rest_since_nobody_could_stop_it(rig, core, monkeypatch):
    rig.accept(rig.chunk(rig.sway()))
    started = time.monotonic()
    core.watch_node()
    assert rig.state == "FOLLOWING"
    monkeypatch.setattr(time, "monotonic", lambda: started + NODE_SILENT + 1.0)
    core.watch_node()
    assert rig.state == "STOPPING"
    assert "node has been silent" in rig.controller.reason


class Falling:
    """Stands for a driver: its arm falls for so many looks."""

    def __init__(self, looks):
        self.looks = looks

    @property
    def falls(self):
        self.looks -= 1
        return self.looks > 0


def test_an_arm_that_would_fall_is_stopped_and_held_when_its_node_has_died_and_it_says_so(
    rig, core, capsys, monkeypatch
):
    rig.accept(rig.chunk(rig.sway()))
    monkeypatch.setattr(core, "tick", rig.tick)    # by the rig's clocks
    sent = len(rig.driver.sent)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        _hold_on(core, Falling(20), "left")
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert rig.state in ("STOPPING", "HOLDING") and "node of this controller has died" in rig.controller.reason
    said = capsys.readouterr().err
    assert f"Process {os.getpid()} goes on holding the arm" in said and f"kill {os.getpid()}" in said
    assert len(rig.driver.sent) >= sent + 15


def test_a_signal_ends_the_process_that_holds_an_arm_on(core, capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    try:
        _hold_on(core, Falling(10**9), "left")
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert "lets go of arm 'left'" in capsys.readouterr().err


@pytest.mark.parametrize("node_dies", [False, True])
def test_a_terminal_that_is_closed_ends_no_setpoint_process_not_even_one_that_holds_an_arm_on(
    contract, wire, monkeypatch, node_dies
):
    """SIGHUP reaches all processes of the terminal at once. Here it comes in a reading of the arm, and in a look at
    whether it would fall."""
    here = ServoArm(6, contract.values("home", contract.arm("arm").joints))
    read, ended, readings, looks = here.read, [], [], []

    def read_and_hang_up():
        readings.append(1)
        if len(readings) == 5:
            os.kill(os.getpid(), signal.SIGHUP)
        if len(readings) == 10:
            if not node_dies:
                send(wire[1], Request("end", ()))
            wire[1].close()
        return read()

    def falls(_):
        looks.append(1)
        if len(looks) == 3:
            os.kill(os.getpid(), signal.SIGHUP)
        return len(looks) < 10

    monkeypatch.setattr(here, "read", read_and_hang_up)
    monkeypatch.setattr(ServoArm, "falls", property(falls))
    monkeypatch.setattr("arm_controller.setpoint_process.take_privileges", lambda: "")
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: ended.append(1)) for number in numbers]
    try:
        run(Settings(contract, contract.arm("arm"), here, True, False, (), "splice", "hold"), wire[0])
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert not ended and len(readings) >= 10 and not here.connected
    assert len(looks) >= 10 if node_dies else not looks


def test_a_node_that_says_that_it_ends_is_told_from_one_that_has_died(core, wire):
    send(wire[1], Request("end", ()))
    wire[1].close()
    while core.take(wire[0]):
        pass
    assert core.ending


def test_a_stop_does_not_wait_behind_chunks(rig, core, wire, monkeypatch):
    done = []
    monkeypatch.setattr(core, "chunk", lambda number: done.append(number) or "")
    monkeypatch.setattr(core, "operate", lambda verb: done.append(verb) or "")
    for number in range(50):
        send(wire[1], Request("chunk", (number,)))
    send(wire[1], Request("operate", ("stop",)))
    core.take(wire[0])
    assert done[0] == "stop"
    while len(done) < 9:
        core.take(wire[0])
    assert done[1:] == list(range(42, 50))


def test_what_nobody_waits_for_any_more_is_not_done(core, wire, monkeypatch):
    done = []
    monkeypatch.setattr(core, "operate", lambda verb: done.append(verb) or "")
    send(wire[1], Request("operate", ("arm",), 1, time.monotonic() - 1.0))
    send(wire[1], Request("operate", ("stop",), 2))
    core.take(wire[0])
    assert done == ["stop"]


def test_a_node_asks_without_waiting_for_a_loop_that_hangs(wire):
    assert any(not send(wire[1], Request("alive", ())) for _ in range(100_000))


def test_a_driver_that_gives_too_few_joints_is_a_fault_and_the_loop_goes_on(rig, monkeypatch):
    read = rig.driver.read
    monkeypatch.setattr(rig.driver, "read", lambda: ArmState(read().positions[:5], rig.ros_ns))
    rig.tick(3)
    assert rig.controller.state.fault == Fault.DRIVER
    assert "for 6 joints" in rig.controller.state.fault_text


def test_a_driver_that_fails_in_a_way_of_its_own_is_a_driver_fault(rig, monkeypatch):
    monkeypatch.setattr(rig.driver, "read", lambda: 1 / 0)
    rig.tick(3)
    assert rig.controller.state.fault == Fault.DRIVER
    with pytest.raises(Refused, match="ZeroDivisionError"):
        rig.operator.clear_fault()



def test_a_chunk_too_large_for_a_packet_is_refused_and_counted(rig, core, wire):
    large = rig.chunk(np.zeros((10_000, 6)))
    assert not send(wire[1], Request("chunk", (large,)))
    assert send(wire[1], Request("chunk", (cut_off(large),)))
    assert core.take(wire[0])
    assert rig.controller.counters.refused == 1 and rig.controller.last.refused_id == large.chunk_id


def test_once_an_operator_has_asked_for_anything_a_simulated_arm_does_not_arm_itself(contract, wire):
    rig = Rig(contract)
    core = Core(rig.controller)
    with pytest.raises(Refused):
        core.operate("stop")
    still_to_be_armed, _ = _try_arm(core, wire[0], "")
    assert not still_to_be_armed and rig.state == "DISARMED"
