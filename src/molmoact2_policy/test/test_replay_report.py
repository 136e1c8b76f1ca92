# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a replay."""

import base64
import io
import json
import re

import av
import numpy as np
import pytest
from bag_samples import record_a_run, replayed
from builtin_interfaces.msg import Time
from PIL import Image
from tiny_robot import CONTRACT, JOINTS, SECOND, joint_state

from molmoact2_contract import cli
from molmoact2_msgs.msg import ActionChunk, ReasoningTrace, StageTiming
from molmoact2_policy.replay.figures import RunFigures
from molmoact2_policy.replay.open_loop import Measured, OpenLoop

START = 1000 * SECOND


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", 4)


@pytest.fixture(scope="module")
def out(bag, tmp_path_factory):
    out = tmp_path_factory.mktemp("replay") / "out"
    assert cli.main(["replay", str(bag), "--out", str(out), "--compare", "depth=full"]) == 0
    return out


def test_the_report_is_one_file_that_asks_no_network_for_anything(out):
    page = (out / "report.html").read_text()
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]{1,40})""", page)
    assert len(sources) > 5 and all(source.startswith("data:") for source in sources)
    assert "<script" not in page and "://" not in page


def test_its_video_and_its_plots_can_be_read(out):
    page = (out / "report.html").read_text()
    (video,) = re.findall(r"data:video/mp4;base64,([^\"]+)", page)
    with av.open(io.BytesIO(base64.b64decode(video))) as container:
        assert sum(1 for _ in container.decode(video=0)) > 5
    plots = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(plots) == 7, "cells of two runs, ratio, latency, seams, open-loop error, difference of actions"
    for plot in plots:
        Image.open(io.BytesIO(base64.b64decode(plot))).verify()


def test_it_compares_the_recorded_run_the_replayed_one_and_another(out):
    summary = json.loads((out / "summary.json").read_text())
    runs = summary["runs"]
    assert list(runs) == ["recorded", "replayed", "depth=full"]
    assert runs["recorded"]["refresh_ratio"] == runs["replayed"]["refresh_ratio"] < runs["depth=full"]["refresh_ratio"]
    assert runs["depth=full"]["refresh_ratio"] == 1
    assert runs["recorded"]["open_loop_error"] == runs["replayed"]["open_loop_error"]
    assert summary["differences"]["replayed"]["codes_equal"] == 1
    assert summary["differences"]["replayed"]["largest_action_difference"]["max"] == 0
    assert summary["differences"]["depth=full"]["largest_action_difference"]["max"] > 0
    page = (out / "report.html").read_text()
    assert "bit by bit" in page and page.count("depth=full") >= 4


def test_an_earlier_replay_can_be_compared_with(bag, out, tmp_path, capsys):
    code, summary, printed = replayed(bag, tmp_path / "again", capsys, "--compare", str(out))
    assert code == 0, printed
    earlier = dict(summary["runs"][str(out)])
    now = dict(summary["runs"]["replayed"])
    assert earlier.pop("seconds") and now.pop("seconds") and earlier == now
    assert summary["differences"][str(out)]["largest_action_difference"]["max"] == 0


@pytest.mark.parametrize("what", ["nowhere", "colour=red", "depth"])
def test_what_cannot_be_compared_with_is_refused(bag, tmp_path, capsys, what):
    code, _, printed = replayed(bag, tmp_path / "out", capsys, "--compare", what)
    assert code == 2 and f"--compare {what}" in printed


def chunk(number: int, captured: float, positions: np.ndarray) -> ActionChunk:
    message = ActionChunk(chunk_id=number, dt=0.05, first_offset=1.0, joint_names=list(JOINTS), horizon=len(positions))
    stamp = START + round(captured * SECOND)
    message.header.stamp = Time(sec=stamp // SECOND, nanosec=stamp % SECOND)
    message.positions = positions.ravel().tolist()
    return message


def test_the_open_loop_error_is_what_lies_between_plan_and_measurement_by_joint_and_step():
    measured = Measured(CONTRACT.joint_names)
    loop = OpenLoop(measured)
    rest = np.array([joint_state(0).position] * 4)
    loop.add(chunk(1, 0.0, rest + np.array([[0.1], [0.2], [0.3], [0.4]])))
    loop.add(chunk(2, 0.1, rest))
    for k in range(6):
        measured.hear(joint_state(START + k * SECOND // 20))
        loop.advance()
    np.testing.assert_allclose(loop.mean, np.tile([[0.1], [0.2], [0.3], [0.4]], 7), atol=1e-9)
    loop.advance(finish=True)    # of the second chunk, what was executed until 0.25 s
    np.testing.assert_allclose(loop.mean[:, 0], [0.05, 0.1, 0.15, 0.4], atol=1e-9)


def test_a_clock_that_is_set_back_leaves_no_chunk_waiting_for_ever():
    measured = Measured(CONTRACT.joint_names)
    loop = OpenLoop(measured)
    rest = np.array([joint_state(0).position] * 2)
    measured.hear(joint_state(START))
    loop.add(chunk(1, 0.0, rest))
    measured.hear(joint_state(START - 500 * SECOND))
    loop.add(chunk(2, -500.0, rest + 0.5))
    for k in range(10):
        measured.hear(joint_state(START - 500 * SECOND + k * SECOND // 20))
        loop.advance()
    np.testing.assert_allclose(loop.mean, 0.5)


def test_a_seam_is_the_largest_step_from_the_chunk_before_when_the_new_one_is_ready():
    run = RunFigures("run", CONTRACT.joint_names)
    flat = np.zeros((10, 7))
    for number, (captured, plan, ready) in enumerate(
        [(0.0, flat, 0.1), (0.2, flat + np.arange(7) / 100, 0.3), (5.0, flat, 5.1)], 1
    ):
        message = chunk(number, captured, plan)
        trace = ReasoningTrace(trace_id=f"t-{number}", timings=[StageTiming(stage="total", seconds=0.1)])
        trace.header = message.header
        run.add(trace, message, START + round(ready * SECOND))
    assert run.seams[1] == pytest.approx(0.06)
    assert np.isnan(run.seams[[0, 2]]).all(), "the first follows none, the last comes after a pause"
