# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What nodes of doubles are made of: the program that answers lines, and the world's arm that shows where one is."""

import sys

import numpy as np
import pytest
from watcher import CONTRACT, wait_until

from arm_controller.driver import DriverError
from molmoact2_contract import load_contract
from mujoco_driver import double_node
from mujoco_driver.bus_server import BusServer
from mujoco_driver.double_node import DoubleError, Program
from mujoco_driver.mirror import Mirror

SCRIPT = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "ask":
        print('done {"positions": [1.5]}', flush=True)
    elif word == "end":
        sys.exit(3)
    elif word != "hang":
        print(f"done: {word}" if word != "bad" else "error no such fault", flush=True)
"""


@pytest.fixture
def program():
    program = Program([sys.executable, "-c", SCRIPT])
    yield program
    program.close()


def test_a_program_greets_takes_lines_and_answers_questions(program):
    assert program.greeting == "ready" and program.exit_code is None
    assert program.say("cable out") == "cable out"
    assert program.ask() == {"positions": [1.5]}


def test_what_a_program_refuses_is_an_error_with_its_words(program):
    with pytest.raises(DoubleError, match="^no such fault$"):
        program.say("bad")
    assert program.say("again") == "again"


def test_a_program_that_has_ended_or_hangs_is_named(program, monkeypatch):
    monkeypatch.setattr(double_node, "ANSWER_WITHIN", 0.2)
    with pytest.raises(DoubleError, match="did not answer within 0.2 s"):
        program.say("hang")
    with pytest.raises(DoubleError, match="has ended"):
        program.say("end")
    wait_until(lambda: program.exit_code == 3, "its exit code is not told")


def test_a_program_that_cannot_begin_is_named():
    with pytest.raises(DoubleError, match="has ended"):
        Program([sys.executable, "-c", "raise SystemExit(1)"])


def test_the_worlds_arm_goes_where_it_is_shown(bus, world, contract):
    mirror = Mirror(contract, contract.arm("arm"), bus.address)
    there = contract.values("home") + np.array([0.4, 0.1, 0.0, 0.0, 0.0, 0.4])
    assert mirror.show(there)
    wait_until(lambda: abs(world.read()[1][0] - there[0]) < 0.03, "the arm is not shown")
    mirror.close()


def test_a_world_that_is_started_anew_is_found_again(world, contract, tmp_path):
    address = str(tmp_path / "mirrored.sock")
    server = BusServer(world, address, lambda text: None)
    mirror = Mirror(contract, contract.arm("arm"), address)
    server.close()
    wait_until(lambda: not mirror.show(contract.values("home")), "it does not notice")
    server = BusServer(world, address, lambda text: None)
    wait_until(lambda: mirror.show(contract.values("home")), "it does not find the world again")
    mirror.close()
    server.close()


def test_a_world_without_such_an_arm_is_refused(bus):
    yam = load_contract(CONTRACT.with_name("yam_bimanual.yaml"))
    with pytest.raises(DriverError, match="left_joint_0"):
        Mirror(yam, yam.arm("left"), bus.address)
