# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""From demonstrations to an arm that moves: what a short training run leaves acts in the simulated scene."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from molmoact2_contract import load_contract
from molmoact2_contract.cli import main
from molmoact2_data.writer import DatasetWriter, Row

START = Path(__file__).resolve().parents[3] / "checkpoints/molmoact2-tiny-think-so101"
TAG, LENGTH = "so101_sim_molmoact2_tiny", 8


def demonstrations(root: Path) -> Path:
    """One that is as short as can be; how an arm stays where its norm tag has the middle."""
    figures = json.loads((START / "norm_stats.json").read_text())["metadata_by_tag"][TAG]["action_stats"]
    middle = (np.array(figures["min"]) + np.array(figures["max"])) / 2
    image = np.full((48, 64, 3), 120, np.uint8)
    joints = [f"{joint}.pos" for joint in load_contract("so101").joints]
    with DatasetWriter(root, 30, joints, {"front": image.shape[:2], "wrist": image.shape[:2]}, "so101", {}) as writer:
        writer.begin("touch the red cube", LENGTH, {})
        for _ in range(LENGTH):
            writer.add(Row(middle, middle, {"front": image, "wrist": image}))
        writer.end()
    return root


def test_the_checkpoint_of_a_short_training_run_acts_in_the_simulator(tmp_path, monkeypatch):
    monkeypatch.setattr("molmoact2_model.training.loop.Trainer._pictures", lambda _: None)    # they take longer than it
    recipe = {
        "format": "molmoact2_recipe.v1", "stage": "short", "description": "two steps",
        "start": {"checkpoint": str(START)}, "norm_tag": TAG, "cameras": ["front", "wrist"],
        "data": [{"path": str(demonstrations(tmp_path / "data"))}], "objective": {"flow_draws": 1},
        "optimizer": {"rate": 1e-5, "trained": "expert", "warmup": 0},
        "run": {"steps": 2, "batch": 2, "every": 1, "buffer": 4},
    }    # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--device", "cpu"]) == 0
    checkpoint = tmp_path / "run/checkpoint"
    before, after = (load_file(folder / "model.safetensors") for folder in (START, checkpoint))
    assert any((before[name].float() != after[name].float()).any() for name in before if "action_expert" in name)

    tried = ["--task", "touch", "--scenes", "80000:80001", "--latency", "0.35", "--depth", "off"]
    command = ["eval", "so101_sim", "--checkpoint", str(checkpoint), *tried, "--out", str(tmp_path / "eval")]
    assert main(command) == 0
    (found,) = json.loads((tmp_path / "eval/summary.json").read_text())["conditions"]
    assert found["n"] == 1
    assert found["latency_p50"] == pytest.approx(0.35, abs=0.02), "no chunk of it was followed"
    assert not [reason for reason in found["failures"] if reason.startswith("the task ended")], found["failures"]
