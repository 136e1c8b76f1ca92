# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that was trained has every file of the one that it began from."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from test_training import golden_data, recipe_of

from molmoact2_model.training.beginning import begin
from molmoact2_model.training.recipe import load_recipe
from molmoact2_model.training.saving import save_checkpoint

MORE = {
    "modeling_molmoact2.py": "raise SystemExit('never run')", "chat_template.jinja": "{{ messages }}",
    "merges.txt": "a b", "special_tokens_map.json": "{}", "depth_codebook.json": "{}",
}    # fmt: skip
LEFT = {
    "model.safetensors.index.json": "{}", "pytorch_model.bin": "", "model-00001-of-00002.safetensors": "",
    "README.md": "# old", ".gitattributes": "",
}    # fmt: skip


@pytest.fixture
def source(golden, tmp_path):
    folder = shutil.copytree(golden.checkpoint, tmp_path / "source")
    for name, text in (MORE | LEFT).items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("dtype", "stated"), [(None, "float32"), (torch.bfloat16, "bfloat16")])
def test_everything_but_weights_and_card_is_kept_and_the_type_of_the_weights_is_stated(
    golden, policy, source, tmp_path, dtype, stated
):
    save_checkpoint(policy.network, source, tmp_path / "goal", "# new\n", dtype)
    files = {path.name for path in golden.checkpoint.iterdir()} | set(MORE)
    assert {path.name for path in (tmp_path / "goal").iterdir()} == files | {"README.md"}
    for name in files - {"model.safetensors", "config.json"}:
        assert (tmp_path / "goal" / name).read_bytes() == (source / name).read_bytes()
    assert (tmp_path / "goal/README.md").read_text() == "# new\n"
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "goal"))
    assert after == before | {"dtype": stated}
    with safe_open(tmp_path / "goal/model.safetensors", framework="pt") as file:
        assert file.get_tensor("lm_head.weight").dtype == (dtype or torch.float32)


def test_types_of_parts_are_stated_too_where_they_were(policy, source, tmp_path):
    raw = json.loads((source / "config.json").read_text())
    raw["text_config"] |= {"torch_dtype": "float32"}
    (source / "config.json").write_text(json.dumps(raw))
    save_checkpoint(policy.network, source, tmp_path / "goal", "", torch.bfloat16)
    saved = json.loads((tmp_path / "goal/config.json").read_text())
    assert saved["text_config"]["torch_dtype"] == "bfloat16" and saved["text_config"]["dtype"] is None


def test_statistics_of_the_recipe_take_the_place_of_the_checkpoints_whatever_their_files_name(source, tmp_path):
    raw = json.loads((source / "config.json").read_text()) | {"norm_stats_filename": "figures.json"}
    (source / "config.json").write_text(json.dumps(raw))
    (source / "norm_stats.json").rename(source / "figures.json")
    (source / "model.safetensors.index.json").unlink()
    mine = json.loads((source / "figures.json").read_text())
    mine["metadata_by_tag"] = {"mine": mine["metadata_by_tag"]["tiny_arm"]}
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    recipe = recipe_of(
        tmp_path, golden_data(tmp_path / "data"), norm_tag="mine", cameras=["front"], mix={"action": 1.0}, objective={},
        start={"checkpoint": str(source), "norm_stats": str(tmp_path / "mine.json")},
    )    # fmt: skip
    found = begin(load_recipe(recipe), tmp_path / "files")
    assert tuple(found.stats.tags) == ("mine",)
    assert found.note == "cameras are front, norm tag 'mine' has top, wrist"
    assert (found.files / "figures.json").read_bytes() == (tmp_path / "mine.json").read_bytes()
    assert not (found.files / "norm_stats.json").exists()
