# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where something of a system dies whose arms are real: a YAM's driver, its motors doubles, in a system that is no
simulation."""

import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from live_system import ROOT, Up
from test_up import Operator

from molmoact2_bringup import running as module
from molmoact2_bringup.check import moving
from molmoact2_bringup.check.options import Options
from molmoact2_bringup.holding import held_arms, lost, may_fall, what_next
from molmoact2_bringup.lifecycle import BringUpError
from molmoact2_bringup.running import RunningSystem
from molmoact2_contract import load_system
from molmoact2_msgs.msg import ControllerStatus

DOMAIN = 117


@pytest.fixture
def real(tmp_path):
    """yam_single_double.yaml, as if its arm were real: an operator arms it."""
    told = yaml.safe_load((ROOT / "config/systems/yam_single_double.yaml").read_text())
    contract = (ROOT / "config/embodiments/yam_single.yaml").read_text()
    patient = tmp_path / "yam_single.yaml"    # on a busy machine the motors are heard late
    patient.write_text(contract.replace("joint_state_timeout: 0.2", "joint_state_timeout: 1.0"))
    told["simulation"], told["contract"] = False, str(patient)
    told["processes"]["arm_controller"]["parameters"]["auto_arm"] = False
    del told["processes"]["policy"]    # it moves simulations only
    path = tmp_path / "real.yaml"
    path.write_text(yaml.safe_dump(told, sort_keys=False))
    system = Up(DOMAIN, str(path))
    yield system
    system.stop(signal.SIGTERM)


@pytest.fixture
def operator(monkeypatch):
    monkeypatch.setattr(Operator, "domain", DOMAIN)
    operator = Operator()
    yield operator
    operator.node.destroy_node()
    operator.context.shutdown()


def raise_arm(system, operator):
    """Armed, and moved home, which is not its rest pose."""
    system.wait_for(r"\[arm_controller\].*setpoints a second", 240)
    assert operator.call_until("arm/arm", lambda answer: answer.success)
    assert operator.call_until("arm/home", lambda answer: answer.success)
    system.wait_for("holding: reached home")


def test_a_process_that_dies_leaves_the_arm_held_and_after_parking_ctrl_c_ends_all(real, operator):
    raise_arm(real, operator)
    controller = real.child("arm_controller")
    os.kill(real.child("visualizer"), signal.SIGKILL)
    assert "process 'visualizer' was killed by SIGKILL" in real.wait_for("^error: ")
    real.wait_for("THE ARMS ARE HELD")
    real.wait_for(r"ros2 service call /arm/park")
    assert real.process.poll() is None and os.path.exists(f"/proc/{controller}")
    real.process.send_signal(signal.SIGINT)
    real.wait_for(r"waiting until it is parked|ending")
    operator.call_until("arm/park", lambda answer: answer.success)
    assert real.end() == 1
    assert not os.path.exists(f"/proc/{controller}")


@pytest.mark.long
def test_a_second_ctrl_c_ends_a_held_system_at_once(real, operator):
    raise_arm(real, operator)
    os.kill(real.child("visualizer"), signal.SIGKILL)
    real.wait_for("THE ARMS ARE HELD")
    real.process.send_signal(signal.SIGINT)
    real.wait_for(r"from its rest pose \(.*\); waiting until it is parked")
    real.process.send_signal(signal.SIGINT)
    assert real.end() == 1


def test_where_the_controllers_node_dies_its_other_process_holds_the_arm_until_it_is_ended(real, operator):
    raise_arm(real, operator)
    os.kill(real.child("arm_controller"), signal.SIGKILL)
    pid = int(re.search(r"Process (\d+) goes on holding", real.wait_for("goes on holding the arm"))[1])
    real.wait_for("THE CONTROLLER OF ARM 'arm' HAS ENDED: nobody moves or parks it")
    os.kill(pid, signal.SIGTERM)
    real.wait_for("lets go of arm 'arm'")
    real.process.send_signal(signal.SIGINT)
    assert real.end() == 1
    assert not [line for line in real.lines if "THE ARMS ARE HELD" in line or "waiting until it is parked" in line]
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "the process that held the arm is still there"
        time.sleep(0.05)


def test_ctrl_c_at_an_orderly_end_waits_until_an_arm_that_would_fall_is_parked(real, operator):
    raise_arm(real, operator)
    real.process.send_signal(signal.SIGINT)
    real.wait_for(r"arm 'arm' is .* from its rest pose \(.*\); waiting until it is parked")
    assert real.process.poll() is None
    assert operator.call_until("arm/park", lambda answer: answer.success)
    assert real.end() == 0, "\n".join(real.lines)


@pytest.mark.long
def test_a_second_ctrl_c_at_an_orderly_end_ends_all(real, operator):
    raise_arm(real, operator)
    real.process.send_signal(signal.SIGINT)
    real.wait_for(r"waiting until it is parked")
    real.wait_for(r"Ctrl-C ends all at once")
    real.process.send_signal(signal.SIGINT)
    real.wait_for(r"\[up\] ending")
    real.end()


def test_where_holding_itself_fails_that_is_said_and_nothing_is_ended_before_a_second_ctrl_c(monkeypatch, capfd):
    running = RunningSystem(replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False))
    running._on_status("arm", ControllerStatus(state=ControllerStatus.HOLDING))

    def silent_spinner(_):
        raise BringUpError("the thread that spins does nothing")

    def broken(*_, **__):
        raise ValueError("no words")

    monkeypatch.setattr(running, "spun", silent_spinner)
    monkeypatch.setattr(module, "what_next", broken)
    running._heard["arm"] -= 60
    holding = threading.Thread(target=running._hold_on, args=("the policy died",), daemon=True)
    holding.start()
    running.stopping.set()
    deadline = time.monotonic() + 30
    while running.stopping.is_set():
        assert holding.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    assert holding.is_alive()
    running.stopping.set()
    holding.join(30)
    assert not holding.is_alive()
    said = capfd.readouterr().err
    for words in (
        "its controller is silent", "nobody can stop it from here", "the policy died", "no words",
        "the thread that spins does nothing", "nobody knows where arm 'arm' is; waiting until it is parked",
    ):
        assert words in said


def test_a_ctrl_c_that_follows_at_once_on_what_is_said_of_parking_is_not_lost(monkeypatch):
    def silent_spinner(_):
        raise BringUpError("the thread that spins does nothing")

    running = RunningSystem(replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False))
    running._on_status("arm", ControllerStatus(state=ControllerStatus.HOLDING))
    monkeypatch.setattr(running, "spun", silent_spinner)

    def said(lines):
        if any("Ctrl-C ends all at once" in line for line in lines):
            running.stopping.set()

    monkeypatch.setattr(running, "_alarm", said)
    running.stopping.set()
    waiting = threading.Thread(target=running._hold_until_parked, daemon=True)
    waiting.start()
    waiting.join(60)
    assert not waiting.is_alive()


@pytest.fixture
def left(monkeypatch):
    """What a system does when it is left, in order; nothing is started, and nothing else is done."""
    done = []

    def note(name):
        monkeypatch.setattr(RunningSystem, name, lambda self, *given, **_: done.append((name, *given[:1])))

    monkeypatch.setattr(RunningSystem, "__enter__", lambda self: self)
    for name in ("_stop_arms", "_until_parked", "close"):
        note(name)
    return done


def a_yam_that_was_armed(system):
    running = RunningSystem(system, lambda _: None)
    running._on_status("arm", ControllerStatus(state=ControllerStatus.HOLDING))
    return running


def test_every_command_that_runs_a_system_waits_at_an_orderly_end_until_an_arm_that_would_fall_is_parked(left):
    system = replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False)
    with a_yam_that_was_armed(system):
        pass
    assert left == [("_stop_arms",), ("_until_parked", {"arm"}), ("close",)]
    left.clear()
    with pytest.raises(module.Stopped), a_yam_that_was_armed(system):
        raise module.Stopped
    assert left == [("_stop_arms",), ("_until_parked", {"arm"}), ("close",)]
    left.clear()
    with a_yam_that_was_armed(replace(system, simulation=True)):
        pass
    assert left == [("close",)]


def test_a_check_that_has_moved_an_arm_waits_until_it_is_parked(left, monkeypatch):
    def moved(running, *_):
        running._on_status("arm", ControllerStatus(state=ControllerStatus.HOLDING))
        running._on_status("arm", ControllerStatus(state=ControllerStatus.DISARMED))
        return []

    monkeypatch.setattr(moving, "move_lines", moved)
    system = replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False)
    assert moving.check_move(system, Options(Path(), move=True), (), lambda _: None) == []
    assert ("_until_parked", {"arm"}) in left and left[-1] == ("close",)


def test_arms_of_a_system_that_is_only_listened_to_are_not_stopped_when_the_listener_ends(left):
    system = replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False, processes=())
    with pytest.raises(RuntimeError, match="it failed"), a_yam_that_was_armed(system):
        raise RuntimeError("it failed")
    with a_yam_that_was_armed(system):
        pass
    assert left == [("close",), ("close",)]


def test_where_waiting_for_the_park_fails_the_arms_are_held_and_not_let_down(left, monkeypatch, capfd):
    def broken(*_):
        raise ValueError("nobody can say")

    monkeypatch.setattr(module, "may_fall", broken)
    system = replace(load_system(ROOT / "config/systems/yam_single_double.yaml"), simulation=False)
    with pytest.raises(ValueError, match="nobody can say"), a_yam_that_was_armed(system):
        pass
    assert ("_until_parked", {"arm"}) in left and left[-1] == ("close",)
    assert "THE ARMS ARE HELD" in capfd.readouterr().err


def test_arms_of_which_drivers_fall_is_known():
    def falls(name, arm):
        system = load_system(ROOT / f"config/systems/{name}.yaml")
        return may_fall(system.contract, system.controllers[arm])

    assert falls("yam_single_double", "arm")
    assert not falls("so101_double", "arm")


def test_arms_are_held_that_are_real_and_moved_and_whose_controller_lives():
    system = load_system(ROOT / "config/systems/yam_bimanual.yaml")
    left = system.process("left_arm_controller")
    moved = replace(system, processes=tuple(
        replace(p, parameters={**p.parameters, "shadow": False}) if p in system.controllers.values() else p
        for p in system.processes
    ))
    assert held_arms(system) == [] and held_arms(replace(moved, simulation=True)) == []
    assert held_arms(moved) == ["left", "right"]
    assert held_arms(moved, [moved.process(left.name)]) == ["right"]
    assert held_arms(moved, list(moved.controllers.values())) == []
    text = "\n".join(what_next("it died", system.contract, ["left", "right"]))
    assert "/left/park" in text and "/right/park" in text and "second Ctrl-C" in text


def test_an_arm_in_fault_is_told_to_be_cleared_and_armed_and_one_whose_controller_ended_is_not_said_to_be_held():
    contract = load_system(ROOT / "config/systems/yam_bimanual.yaml").contract
    lines = what_next("it died", contract, ["left"], dead=["right"], faulted=["left"])
    calls = [line.split()[3] for line in lines if "ros2 service call" in line]
    assert calls == ["/left/clear_fault", "/left/arm", "/left/park"]
    assert [line for line in lines if "right" in line] == [lost("right")]
    assert any(contract.arm("right").stopping.process_death in line for line in lines)
    assert contract.arm("left").stopping.close in lines[-1] and "'left'" in lines[-1]
    alone = "\n".join(what_next("it died", contract, [], dead=["right"]))
    assert lost("right") in alone and "HELD" not in alone and "/park" not in alone
