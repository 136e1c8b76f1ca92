# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A Hub id instead of a folder. No network is used: a snapshot lies in the Hub's own cache, or nowhere."""

import shutil

import pytest
from huggingface_hub import constants

from molmoact2_model import CheckpointError, MolmoAct2Policy
from molmoact2_model.checkpoint import find_checkpoint

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_hub_id_is_found_in_the_cache_by_branch_and_by_revision(golden, offline_cache):
    repository = offline_cache / "models--somebody--tiny"
    shutil.copytree(golden.checkpoint, repository / "snapshots" / REVISION)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    assert MolmoAct2Policy.from_pretrained("somebody/tiny").norm_tags == ("tiny_arm", "tiny_fast")
    assert find_checkpoint(f"somebody/tiny@{REVISION}").name == REVISION


def test_a_hub_id_that_cannot_be_fetched_is_an_error_that_names_it(offline_cache):
    with pytest.raises(CheckpointError, match="somebody/absent is no local folder and could not be fetched"):
        find_checkpoint("somebody/absent")
