# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A replay takes the contract and the checkpoint that were recorded, not what bears their names today."""

import shutil
from pathlib import Path

import pytest
import yaml
from bag_samples import record_a_run, replayed
from tiny_robot import CHECKPOINT, CONTRACT

from molmoact2_policy.bags.bag import Bag

FINGERPRINT = "molmoact2_checkpoint_fingerprint"


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", 2)


@pytest.fixture
def replay(tmp_path, capsys):
    return lambda path, *arguments: replayed(path, tmp_path / "out", capsys, *arguments)


def with_fact(bag: Path, path: Path, name: str, value: str) -> Path:
    """A copy of a bag of which one fact was another."""
    shutil.copytree(bag, path)
    file = path / "metadata.yaml"
    told = yaml.safe_load(file.read_text())
    custom = told["rosbag2_bagfile_information"]["custom_data"]
    assert name in custom
    custom[name] = value
    file.write_text(yaml.safe_dump(told))
    return path


def test_a_bag_says_which_contract_and_checkpoint_it_was_recorded_with(bag):
    with Bag(bag) as opened:
        assert opened.facts["contract_file"] == CONTRACT.path.read_text()
        assert len(opened.facts["checkpoint_fingerprint"]) == 64


def test_a_contract_that_has_changed_since_is_taken_from_the_bag(bag, replay, tmp_path):
    code, summary, _ = replay(bag)
    assert (code, Path(summary["settings"]["contract"])) == (0, CONTRACT.path)
    then = CONTRACT.path.read_text() + "# as it was then\n"
    changed = with_fact(bag, tmp_path / "changed", "molmoact2_contract_file", then)
    code, summary, printed = replay(changed)
    assert code == 0, printed
    used = Path(summary["settings"]["contract"])
    assert used.parent == tmp_path / "out" and used.read_text() == then
    code, summary, _ = replay(changed, "--contract", str(CONTRACT.path))
    assert Path(summary["settings"]["contract"]) == CONTRACT.path


def test_a_checkpoint_that_is_not_the_recorded_one_is_refused_unless_it_is_named(bag, replay, tmp_path):
    other = with_fact(bag, tmp_path / "other", FINGERPRINT, "0" * 64)
    code, _, printed = replay(other)
    assert code == 2 and "fingerprint 0000000000000000" in printed and "--checkpoint" in printed
    code, _, printed = replay(other, "--checkpoint", str(CHECKPOINT))
    assert code == 0, printed
