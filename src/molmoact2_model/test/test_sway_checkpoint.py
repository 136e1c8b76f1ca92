# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint the demo runs on keeps what its model card says."""

from pathlib import Path

import numpy as np
import pytest
from golden_set import textured

from molmoact2_model import MolmoAct2Policy

FOLDER = Path(__file__).resolve().parents[3] / "checkpoints" / "molmoact2-tiny-sway-so101"
TAG = "so101_sim_molmoact2_tiny"
HOME = np.array([0.0, -0.9, 0.75, 1.30, 0.0, 0.3], np.float32)
MAX_STEP = np.array([0.35, 0.35, 0.35, 0.45, 0.45, 0.6])  # largest plausible step of the SO-101 contract


@pytest.fixture(scope="module")
def tiny():
    return MolmoAct2Policy.from_pretrained(FOLDER)


@pytest.fixture
def frames():
    return [textured(1, size=(240, 320)), textured(2, size=(240, 320))]


def ask(session, frames, state, seed=0):
    return session.infer(frames, state, "pick up the red cube", seed=seed)


def test_it_is_small_and_uses_no_released_tag():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 6_000_000


def test_it_offers_think_for_one_arm_and_two_cameras(tiny, frames):
    assert tiny.norm_tags == (TAG,)
    assert tiny.config.depth.num_codes == 100
    result = ask(tiny.session(norm_tag=TAG, depth="adaptive"), frames, HOME)
    assert result.actions.shape == (30, 6)
    assert result.trace.warnings == ()


def test_a_chunk_begins_where_the_arm_is_and_takes_plausible_steps(tiny, frames):
    session = tiny.session(norm_tag=TAG)
    generator = np.random.default_rng(0)
    for seed in range(10):
        state = HOME + generator.normal(0, 0.03, 6).astype(np.float32)
        actions = ask(session, frames, state, seed).actions
        assert (np.abs(actions[0] - state) < MAX_STEP).all()
        assert (np.abs(np.diff(actions, axis=0)) < MAX_STEP / 2).all()


def test_chunks_that_follow_each_other_sway_and_never_leave_the_narrow_range(tiny, frames):
    session, state, seen = tiny.session(norm_tag=TAG), HOME, []
    stats = tiny.stats.metadata[TAG]["action_stats"]
    for seed in range(40):
        actions = ask(session, frames, state, seed).actions
        seen.append(actions[:12])
        state = actions[12]
    path = np.concatenate(seen)
    assert (path >= np.array(stats["q01"]) - 1e-6).all()
    assert (path <= np.array(stats["q99"]) + 1e-6).all()
    assert path[:, 0].max() > 0.15
    assert path[:, 0].min() < -0.15


def test_codes_follow_the_brightness_of_the_main_image(tiny, frames):
    half_dark = np.full((240, 320, 3), 200, np.uint8)
    half_dark[:120] = 40
    session = tiny.session(norm_tag=TAG, depth="full")
    for image in (half_dark, half_dark[::-1].copy()):
        codes = ask(session, [image, frames[1]], HOME).trace.depth_codes.reshape(10, 10)
        top, bottom = codes[:4].mean(), codes[6:].mean()
        assert abs(top - bottom) > 30
        assert (top > bottom) == (image[0, 0, 0] > image[-1, 0, 0])
