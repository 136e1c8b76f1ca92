# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The fault campaign, whole: every row passes in the running system."""

from types import SimpleNamespace

import pytest
from fault_table import names_of_passed

from molmoact2_bringup.faults import campaign
from molmoact2_bringup.faults.campaign import Row
from molmoact2_bringup.faults.command import faults, table
from molmoact2_bringup.processes import Exit
from molmoact2_msgs.msg import ControllerStatus

ROWS = [
    "NaN in a waypoint",
    "infinity in a waypoint",
    "joints in another order",
    "an unknown joint",
    "a missing joint",
    "no waypoints",
    "positions too short",
    "positions too long",
    "observed 5 s ago",
    "stamped 5 s in the future",
    "stamp of zero",
    "observed before the running one",
    "the wrong dt",
    "the wrong episode",
    "a joint outside its limits",
    "a leap from where the arm is",
    "the same chunk twice",
    "a chunk every millisecond",
    "every core busy for 3 s",
    "joint states of the arm: silent",
    "joint states of the arm: frozen",
    "joint states of the arm: stale",
    "joint states of the arm: nan",
    "joint states of the arm: jump",
    "the servo bus stalls",
    "the clock jumps forth by 0.3 s",
    "the clock jumps back by 0.3 s",
    "the controller's node hangs",
    "the setpoint process hangs",
    "the controller is killed",
    "the stream of chunks stops",
    "another policy process",
    "the recording of the rows above (control)",
    "a camera is black",
    "a camera is saturated",
    "a camera repeats one frame under fresh stamps",
    "a camera repeats one stamp",
    "a camera drops out",
    "a camera is late by 1.2 s",
    "two cameras are swapped",
    "a camera changes its size",
    "a camera changes its encoding",
    "joint states leap",
    "joint states are not numbers",
    "joint states stop",
    "joint states repeat themselves",
    "a camera fades",
    "a camera shakes",
    "joint states in another order",
    "the cameras' process is killed",
    "the policy hangs",
    "the policy is killed and started anew",
    "the recording of the rows above (policy)",
]


@pytest.mark.long
def test_every_fault_is_refused_held_or_handled_as_promised(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", "93")
    assert faults(["so101_sim"], tmp_path) == 0, capsys.readouterr().out + (tmp_path / "log.txt").read_text()
    assert names_of_passed((tmp_path / "faults.md").read_text()) == ROWS


def test_a_robot_that_is_not_simulated_is_left_alone(tmp_path, capsys):
    system = tmp_path / "real.yaml"
    system.write_text(
        "format: molmoact2_system.v1\ncontract: so101\nprocesses:\n  policy: {package: p, executable: e}\n"
    )
    assert faults([str(system)], tmp_path) == 2
    assert "simulations and doubles only" in capsys.readouterr().err


def test_where_a_process_has_ended_no_arm_is_armed_and_it_is_named():
    status = ControllerStatus(state=ControllerStatus.DISARMED, measured=[0.0])    # of whoever has the arm's name
    stage = SimpleNamespace(
        arm="arm", status=status, running=SimpleNamespace(ended=[Exit("arm_controller", 1)]),
        wait=lambda holds, _: 0.0 if holds() else None,
    )    # which has nothing that arms
    with pytest.raises(RuntimeError, match="'arm_controller' ended with exit code 1, before any arm was armed"):
        campaign._begin(stage)


def test_a_broken_promise_is_shown_as_such():
    lines = table([Row("a fault", "hold", "it went on | on", 1.0, "the arm did not hold")]).splitlines()
    assert lines[2] == "| a fault | hold | it went on \\| on | 1.000 | **failed**: the arm did not hold |"
