# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The fault campaign, whole: every row passes in the running system."""

from molmoact2_bringup.faults.campaign import Row
from molmoact2_bringup.faults.command import faults, table


def test_every_fault_is_refused_held_or_handled_as_promised(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", "93")
    assert faults("so101_sim", tmp_path) == 0, capsys.readouterr().out + (tmp_path / "log.txt").read_text()
    rows = (tmp_path / "faults.md").read_text().splitlines()[2:]
    assert len(rows) >= 20
    assert all(row.endswith("| passed |") for row in rows)


def test_a_robot_that_is_not_simulated_is_left_alone(tmp_path, capsys):
    system = tmp_path / "real.yaml"
    system.write_text(
        "format: molmoact2_system.v1\ncontract: so101\nprocesses:\n  policy: {package: p, executable: e}\n"
    )
    assert faults(str(system), tmp_path) == 2
    assert "simulations only" in capsys.readouterr().err


def test_a_broken_promise_is_shown_as_such():
    lines = table([Row("a fault", "hold", "it went on | on", 1.0, "the arm did not hold")]).splitlines()
    assert lines[2] == "| a fault | hold | it went on \\| on | 1.000 | **failed**: the arm did not hold |"
