# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bench measures what it says: short runs of the real thing, and its arithmetic on known numbers."""

import json

import numpy as np
import pytest

from molmoact2_bringup.bench.command import bench
from molmoact2_bringup.bench.motion import Run
from molmoact2_bringup.bench.setpoints import lateness


def test_a_short_run_leaves_figures_of_every_rule_and_a_plot(tmp_path):
    assert bench("so101_sim", tmp_path, chunks=3, seconds=0.5) == 0
    figures = json.loads((tmp_path / "bench.json").read_text())
    rules = {(f["rule"], f["latency"]) for f in figures["motion"]}
    assert rules >= {(rule, 0.45) for rule in ("upstream", "splice", "rtc", "ensemble")}
    by_rule = {f["rule"]: f for f in figures["motion"] if f["latency"] == 0.45}
    for rule in ("splice", "rtc", "ensemble"):
        assert by_rule[rule]["acceleration_step"] < 0.1 * by_rule["upstream"]["acceleration_step"]
        assert by_rule[rule]["standing"] == 0.0 < by_rule["upstream"]["standing"]
    assert figures["setpoints"]["count"] > 20
    assert (tmp_path / "borders.png").stat().st_size > 10_000
    assert "bound" in (tmp_path / "bench.md").read_text()


def test_an_unknown_system_is_bad_input(tmp_path, capsys):
    assert bench("no_such_system", tmp_path, chunks=3, seconds=0.5) == 2
    assert "so101_sim" in capsys.readouterr().err


def test_a_step_is_found_at_its_border_and_standing_where_nothing_moves():
    setpoints = np.zeros((200, 2))
    setpoints[100:, 1] = 0.5
    run = Run("splice", 0.2, 100.0, setpoints, np.array([100]), np.ones(200))
    assert run.border_step(1) == pytest.approx(50.0)
    away = Run("splice", 0.2, 100.0, setpoints, np.array([20]), np.ones(200))
    assert away.border_step(1) == 0.0
    assert run.standing == pytest.approx(198 / 199)


def test_lateness_counts_what_came_late_and_what_was_lost():
    times = np.arange(101) * 10_000_000
    times[50:] += 25_000_000
    late = lateness(times, 10_000_000, "")
    assert (late.p50, late.worst, late.lost, late.count) == (0.0, pytest.approx(0.025), 2, 101)
