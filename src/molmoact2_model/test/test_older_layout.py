# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The released file generation: separate processor files, sharded weights with an index, listed special tokens."""

import json
import shutil

import pytest
from golden_set import compare
from safetensors.torch import load_file, save_file

from molmoact2_model import CheckpointError, MolmoAct2Policy

SHARDS = 3


@pytest.fixture(scope="module")
def older_checkpoint(golden, tmp_path_factory):
    """The golden checkpoint as transformers 4.57 would have saved it."""
    folder = tmp_path_factory.mktemp("older")
    for name in ("config.json", "generation_config.json", "norm_stats.json", "tokenizer.json"):
        shutil.copy(golden.checkpoint / name, folder)
    processor = json.loads((golden.checkpoint / "processor_config.json").read_text())
    preprocessor, video = processor.pop("image_processor"), processor.pop("video_processor")
    tokenizer = json.loads((golden.checkpoint / "tokenizer_config.json").read_text())
    tokenizer["extra_special_tokens"] = ["<im_start>", "<im_end>", "<im_patch>"]
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["rope_parameters"]
    config["text_config"]["rope_scaling"] = None
    for name, content in {
        "config.json": config,
        "processor_config.json": processor,
        "preprocessor_config.json": preprocessor,
        "video_preprocessor_config.json": video,
        "tokenizer_config.json": tokenizer,
    }.items():
        (folder / name).write_text(json.dumps(content))
    _shard(load_file(golden.checkpoint / "model.safetensors"), folder)
    return folder


def _shard(tensors, folder):
    names, weight_map = sorted(tensors), {}
    for index in range(SHARDS):
        file = f"model-{index + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = names[index::SHARDS]
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture(scope="module")
def older_policy(older_checkpoint):
    return MolmoAct2Policy.from_pretrained(older_checkpoint)


@pytest.mark.parametrize("name", ["flow", "discrete", "think_2"])
def test_the_older_layout_gives_the_same_outputs(golden, policy, older_policy, name):
    result, today = golden.run(older_policy, name), golden.run(policy, name)
    compare(golden, name, result)
    assert (result.actions == today.actions).all()
    assert (result.trace.input_ids == today.trace.input_ids).all()


def test_a_missing_shard_is_named(older_checkpoint, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(older_checkpoint, folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00003.safetensors is missing"):
        MolmoAct2Policy.from_pretrained(folder)


def test_an_index_cannot_point_outside_the_folder(older_checkpoint, tmp_path):
    folder = tmp_path / "outside"
    shutil.copytree(older_checkpoint, folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    with pytest.raises(CheckpointError, match="not a file of the checkpoint folder"):
        MolmoAct2Policy.from_pretrained(folder)
