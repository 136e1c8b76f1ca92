# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Where something of a system dies whose arms are real: a YAM's driver, its motors doubles, in a system that is no
simulation."""

import os
import re
import signal
import time
from dataclasses import replace

import pytest
import yaml
from live_system import ROOT, Up
from test_up import Operator

from molmoact2_bringup.holding import held_arms, what_next
from molmoact2_contract import load_system

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
    if system.process.poll() is None:
        system.process.send_signal(signal.SIGTERM)
        system.process.wait(60)


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
    real.wait_for("THE ARMS ARE HELD")
    os.kill(pid, signal.SIGTERM)
    real.wait_for("lets go of arm 'arm'")
    real.process.send_signal(signal.SIGINT)
    real.wait_for("nobody knows where arm 'arm' is")
    real.process.send_signal(signal.SIGINT)
    assert real.end() == 1
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "the process that held the arm is still there"
        time.sleep(0.05)


def test_arms_are_held_that_are_real_and_moved_and_whose_controller_lives():
    system = load_system(ROOT / "config/systems/yam_bimanual.yaml")
    left = system.process("left_arm_controller")
    moved = replace(system, processes=tuple(
        replace(p, parameters={**p.parameters, "shadow": False}) if p in system.controllers.values() else p
        for p in system.processes
    ))
    assert held_arms(system) == [] and held_arms(replace(moved, simulation=True)) == []
    assert held_arms(moved) == ["left", "right"]
    assert held_arms(moved, moved.process(left.name)) == ["right"]
    text = "\n".join(what_next("it died", ["left", "right"]))
    assert "/left/park" in text and "/right/park" in text and "second Ctrl-C" in text
