# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A policy that LeRobot 0.6.1 itself trained and saved acts here as it did there (make_lerobot_saved.py)."""

import json
from pathlib import Path

import numpy as np
import pytest
from make_lerobot_saved import CAMERAS, HIGH, LOW, TASKS

from molmoact2_model import MolmoAct2Policy

SAVED = Path(__file__).parent / "lerobot_saved"


@pytest.fixture(scope="module")
def saved() -> MolmoAct2Policy:
    return MolmoAct2Policy.from_pretrained(SAVED / "policy", base_checkpoint=SAVED / "base")


@pytest.mark.parametrize("case", TASKS)
def test_a_policy_that_lerobot_saved_does_what_it_did_there(saved, case):
    with np.load(SAVED / "cases.npz") as arrays:
        known = {key.removeprefix(f"{case}."): arrays[key] for key in arrays.files if key.startswith(f"{case}.")}
    session = saved.session(norm_tag="lerobot")
    found = session.infer([known[key] for key in CAMERAS], known["state"], TASKS[case], noise=known["noise"])
    assert found.actions.shape == known["actions"].shape == (8, 4)
    assert np.ptp(known["actions"], axis=0).min() > 0, "an arm that never moves shows nothing"
    np.testing.assert_allclose(found.actions / (HIGH - LOW), known["actions"] / (HIGH - LOW), atol=2e-5)


def test_what_it_was_trained_from_is_not_what_it_is(saved):
    """The policy's weights are its own, and the files of the checkpoint that it began from hold none."""
    assert not list((SAVED / "base").glob("*.safetensors"))
    assert json.loads((SAVED / "policy/config.json").read_text())["type"] == "molmoact2"
    assert saved.stats.tag("lerobot").camera_keys == tuple(CAMERAS)
