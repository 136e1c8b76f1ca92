# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of the simulated SO-101, of two seeds, keep what their model cards say."""

import json
from pathlib import Path

import mujoco
import numpy as np
import pytest

from molmoact2_contract import load_contract
from molmoact2_contract.cli import main
from molmoact2_model import MolmoAct2Policy, fingerprint
from molmoact2_model.depth import CODEBOOK_FILE
from mujoco_driver.render import Eyes
from mujoco_driver.scene import build
from mujoco_driver.tabletop import Tabletop
from mujoco_driver.world import home_of

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
TAG = "so101_sim_molmoact2_tiny"
GRID = 10


@pytest.fixture(scope="module", params=["", "-seed2"])
def folder(request):
    return CHECKPOINTS / f"molmoact2-tiny-think-so101{request.param}"


@pytest.fixture(scope="module")
def tiny(folder):
    return MolmoAct2Policy.from_pretrained(folder)


@pytest.fixture(scope="module")
def table():
    contract, scene = load_contract("so101"), build("so101_tabletop")
    home = home_of(contract, scene)
    return Tabletop(scene, np.array([home[joint] for joint in scene.joints]))


def observed(table, seed):
    """Images and state of a scene with the arm at home, and the depth image (240, 320) [m]."""
    table.reset(seed)
    mujoco.mj_forward(table.model, table.data)
    eyes = Eyes(table.scene, (240, 320), 1)
    try:
        images, depth = eyes.look(table.data)
    finally:
        eyes.close()
    return [images[name] for name in ("front", "wrist")], table.to_ros(table.joints()), depth["front"]


def test_it_is_small_and_uses_no_released_tag(folder, tiny):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 16_000_000
    assert tiny.norm_tags == (TAG,)


def test_its_card_is_of_these_weights(folder):
    assert fingerprint(folder) in (folder / "README.md").read_text(), "figures of other weights: judge these anew"


def test_its_depth_codes_mean_distances_and_these_are_about_right(folder, tiny, table):
    values = np.array(json.loads((folder / CODEBOOK_FILE).read_text())["values"])
    session = tiny.session(norm_tag=TAG, depth="full")
    errors = []
    for seed in range(81_000, 81_005):
        images, state, depth = observed(table, seed)
        codes = session.infer(images, state.astype(np.float32), "touch the red cube", seed=0).trace.depth_codes
        true = np.median(depth.reshape(GRID, 24, GRID, 32), axis=(1, 3)).ravel()
        errors.append(np.abs(values[codes] - true))
    assert np.median(errors) < 0.01 and np.mean(errors) < 0.03


@pytest.mark.parametrize("image", ["black", "white", "noise"])
def test_its_depth_codes_come_to_an_end_on_an_image_that_shows_nothing(tiny, table, image):
    images, state, _ = observed(table, 81_000)
    noise = np.random.default_rng(0).integers(0, 256, images[0].shape).astype(np.uint8)
    images[0] = {"black": np.zeros_like(noise), "white": np.full_like(noise, 255), "noise": noise}[image]
    result = tiny.session(norm_tag=TAG, depth="full").infer(images, state.astype(np.float32), "pick up the red cube")
    assert np.isfinite(result.actions).all()


def test_a_chunk_begins_where_the_arm_is_and_takes_plausible_steps(tiny, table):
    joints = load_contract("so101").joints.values()
    largest = np.array([joint.max_step for joint in joints])
    session = tiny.session(norm_tag=TAG)
    for seed in range(81_000, 81_010):
        images, state, _ = observed(table, seed)
        actions = session.infer(images, state.astype(np.float32), "pick up the red cube", seed=seed).actions
        assert actions.shape == (30, 6)
        assert (np.abs(actions[0] - state) < largest).all()
        assert (np.abs(np.diff(actions, axis=0)) < largest / 2).all()
        assert np.abs(actions[-1] - state).max() > 0.2    # it sets out


@pytest.mark.parametrize("task", ["touch", "pick"])
def test_it_does_its_tasks_more_often_than_not(folder, task, tmp_path):
    scenes = ["--scenes", "81000:81010", "--latency", "0.3"]
    command = ["eval", "so101_sim", "--task", task, "--checkpoint", str(folder), *scenes]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    (found,) = json.loads((tmp_path / "out/summary.json").read_text())["conditions"]
    assert found["successes"] > 5, found["failures"]
    assert found["refreshed"] < 0.6    # adaptive depth keeps most of what it saw
