# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the motors do when a process that moves them is killed: of setpoints, or only its node. In bus time."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from yam_rig import RAISED, patient_double

from arm_controller.core_client import CoreClient
from arm_controller.setpoint_process import Settings
from yam_driver.double import MujocoPlant, Status
from yam_driver.double.arm import GRIPPER_LIMITS
from yam_driver.driver import create

LATE = 1000.0    # [s]; nothing here is a matter of speed

# A node's part, without ROS: it arms its arm, says so, and waits. The processes have this machine's patience.
NODE = """
import dataclasses, sys, time
from arm_controller.core_client import CoreClient
from arm_controller.setpoint_process import Settings
from molmoact2_contract import load_contract
from yam_driver.driver import create

if __name__ == "__main__":
    contract = dataclasses.replace(load_contract(sys.argv[1]), joint_state_timeout=1000.0)
    arm = contract.arm("left")
    driver = create(contract, arm, {"channel": sys.argv[2], "gripper_limits": sys.argv[3]})
    settings = Settings(contract, arm, driver, False, False, (), "splice", "hold")
    core = CoreClient(settings, lambda: None, lambda _: None)
    while not core.operate("arm")[0]:    # on a busy machine it may have begun in fault
        core.operate("clear_fault")
    print(core._process.pid, flush=True)
    while True:
        core.tell("alive")
        time.sleep(0.1)
"""


@pytest.fixture
def raised(tmp_path):
    """An arm with weight, away from its rest pose."""
    arm = patient_double(tmp_path / "can", MujocoPlant(), start=RAISED)
    yield arm
    arm.close()


def all_are(double, status):
    return all(motor.status == status for motor in double.motors)


def test_when_the_setpoint_process_is_killed_all_motors_let_go_after_their_own_timeout(raised, contract, until):
    patient = dataclasses.replace(contract, joint_state_timeout=LATE)
    arm = patient.arm("left")
    channel = f"slcan:{raised.adapter.link}"
    driver = create(patient, arm, {"channel": channel, "gripper_limits": GRIPPER_LIMITS})
    core = CoreClient(Settings(patient, arm, driver, False, False, (), "splice", "hold"), lambda: None, lambda _: None)
    try:
        until(lambda: core.operate("arm")[0] or core.operate("clear_fault") is None)    # it may have begun in fault
        until(lambda: all_are(raised, Status.ON) and all(motor.command.kp > 0 for motor in raised.motors))
        os.kill(core._process.pid, signal.SIGKILL)
        until(lambda: core.ended)
        assert core.exit_code == -signal.SIGKILL
        before = raised.positions()
        raised.pass_time(0.9)
        assert all_are(raised, Status.ON)    # it holds on until then
        raised.pass_time(0.2)
        assert all_are(raised, Status.COMM_LOSS)
        raised.pass_time(1.0)
        assert np.abs(np.subtract(raised.positions(), before)).max() > 0.1    # and falls
    finally:
        core.close()


def test_when_only_the_node_is_killed_the_arm_is_held_until_somebody_ends_the_process_that_holds_it(
    raised, contract, until, tmp_path
):
    script, said = tmp_path / "node.py", tmp_path / "said"
    script.write_text(textwrap.dedent(NODE))
    channel = f"slcan:{raised.adapter.link}"
    with said.open("w") as file:
        node = subprocess.Popen(
            [sys.executable, str(script), str(contract.path), channel, GRIPPER_LIMITS],
            stdout=subprocess.PIPE, stderr=file, text=True,
        )
    pid = 0
    try:
        pid = next(int(line) for line in node.stdout if line.strip().isdigit())
        until(lambda: all_are(raised, Status.ON) and all(motor.command.kp > 0 for motor in raised.motors))
        node.kill()
        node.wait()
        until(lambda: f"Process {pid} goes on holding the arm" in said.read_text())
        before, count = raised.positions(), len(raised.frames)
        until(lambda: len(raised.frames) > count + 7 * 100)
        assert all_are(raised, Status.ON) and np.abs(np.subtract(raised.positions(), before)).max() < 0.1
        os.kill(pid, signal.SIGTERM)
        until(lambda: all_are(raised, Status.OFF))    # it sank, damped, and was switched off
        until(lambda: "lets go of arm 'left'" in said.read_text())
    finally:
        node.kill()
        if pid and os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)
