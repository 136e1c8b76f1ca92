# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a demo records, replay makes again."""

import json

import pytest
from live_system import Molmoact2


@pytest.mark.long
def test_a_demos_codes_and_actions_are_made_again_bit_by_bit_from_its_bag(tmp_path):
    demo = Molmoact2(97, "demo", "--for", "6", "--out", str(tmp_path / "demo"))
    demo.wait_for(r"index\.html", 240)
    assert demo.end() == 0, "\n".join(demo.lines)
    assert any(line.startswith("“pick up the red cube”:") for line in demo.lines), "\n".join(demo.lines)

    replay = Molmoact2(97, "replay", str(tmp_path / "demo/bag"), "--out", str(tmp_path / "out"), "--video-seconds", "2")
    replay.wait_for("inputs, codes and actions are equal, bit by bit", 240)
    assert replay.end() == 0, "\n".join(replay.lines)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["traces"] == summary["repeated"] >= 3
    assert summary["equality_of_results_promised"]
    assert summary["equality"]["actions"]["equal"] == summary["traces"]
