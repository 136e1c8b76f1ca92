# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What is refused, and that the message names the thing."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from molmoact2_model import CheckpointError, InputError, ModelError, MolmoAct2Policy
from molmoact2_model.optimizations import Optimizations

STATE = np.zeros(7, np.float32)


@pytest.fixture
def folder(golden, tmp_path):
    """A copy of the golden checkpoint to break."""
    return shutil.copytree(golden.checkpoint, tmp_path / "checkpoint")


def edit(path, **values):
    content = json.loads(path.read_text())
    for key, value in values.items():
        *parents, leaf = key.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        target[leaf] = value
    path.write_text(json.dumps(content))


def edit_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def load(folder):
    return MolmoAct2Policy.from_pretrained(folder)


# --- checkpoints ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llava"}, "model_type is 'llava', expected 'molmoact2'"),
        ({"action_mode": "both_of_them"}, "action_mode"),
        ({"state_format": "continuous"}, "state_format is 'continuous'"),
        ({"num_state_tokens": 0}, "num_state_tokens is 0"),
        ({"text_config__use_qk_norm": False}, "text_config.use_qk_norm"),
        ({"text_config__rope_scaling": {"type": "yarn"}}, "scaled RoPE"),
        ({"text_config__hidden_size": "64"}, "text_config.hidden_size is '64'"),
        ({"adapter_config__pooling_attention_mask": False}, "pooling_attention_mask"),
        ({"adapter_config__vit_layers": [-9]}, "vit_layers"),
        ({"action_expert_config__num_layers": 2}, "action_expert_config.num_layers is 2"),
        ({"depth_token_start_id": None}, "depth_token_start_id"),
        ({"depth_token_start_id": 2800}, "beyond the 2816 output rows"),
        ({"state_token_start_id": 266}, "<state_0>"),
        ({"image_patch_id": 2819}, "<im_patch>"),
        ({"vit_config__image_num_pos": 700}, "729 patches, but the image transformer has 700"),
    ],
)
def test_a_config_that_is_wrong_or_unknown_is_refused(folder, values, message):
    edit(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_processor__crop_mode": "overlap-and-resize-c2"}, "crop_mode"),
        ({"image_processor__resample": 3}, "resample is 3"),
        ({"image_processor__patch_size": 16}, "patch_size is 16, config.json says 14"),
        ({"image_processor__size": {"height": 380, "width": 378}}, "not a whole number of 14 px patches"),
        ({"image_processor__pooling_size": None}, "pooling_size"),
    ],
)
def test_image_settings_that_do_not_fit_are_refused(folder, values, message):
    edit(folder / "processor_config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("key", "change", "named"),
    [
        ("action_token_start_id", 3, "'<action_0>' as 524, expected id 527"),
        ("action_start_token_id", 1, "'<action_start>' as 522, expected id 523"),
        ("num_depth_tokens", 5, "'<depth_132>' as None"),
        ("eos_token_id", -250, "eos_token_id is 8"),
        ("bos_token_id", 10**6, "is beyond the"),
        ("action_end_token_id", 10**5, "action_end_token_id reaches"),
    ],
)
def test_token_ids_that_are_not_the_tokenizers_are_refused(folder, key, change, named):
    before = json.loads((folder / "config.json").read_text())[key]
    edit(folder / "config.json", **{key: before + change})
    with pytest.raises(CheckpointError, match=named):
        load(folder)


@pytest.mark.parametrize("file", ["config.json", "norm_stats.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} is missing"):
        load(folder)


@pytest.mark.parametrize("file", ["config.json", "norm_stats.json", "tokenizer.json", "model.safetensors"])
def test_a_garbled_file_is_named(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(CheckpointError, match=file):
        load(folder)


def test_missing_and_extra_weights_are_named(folder):
    def rename(tensors):
        tensors["model.transformer.ln_g.weight"] = tensors.pop("model.transformer.ln_f.weight")

    edit_weights(folder, rename)
    with pytest.raises(
        CheckpointError, match="missing: model.transformer.ln_f.weight; not expected: .*ln_g.weight"
    ):
        load(folder)


def test_an_expert_the_config_does_not_declare_is_extra(folder):
    edit(folder / "config.json", add_action_expert=False)
    with pytest.raises(CheckpointError, match="not expected: model.action_expert"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "model.transformer.blocks.1.self_attn.att_proj.weight",
        "model.transformer.wte.new_embedding",
        "model.vision_backbone.image_vit.positional_embedding",
        "model.action_expert.blocks.0.mlp.up_proj.bias",
    ],
)
def test_a_weight_of_the_wrong_shape_is_named(folder, name):
    edit_weights(folder, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))
    with pytest.raises(CheckpointError, match=f"weight {name} has shape"):
        load(folder)


def test_a_rope_table_of_another_model_is_refused(folder):
    edit(folder / "config.json", text_config__rope_theta=500_000.0)
    edit(folder / "config.json", text_config__rope_parameters={"rope_type": "default"})
    with pytest.raises(CheckpointError, match="rope_theta"):
        load(folder)


def test_weights_as_pickle_are_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm_mode": "z_score"}, "norm_mode is 'z_score'"),
        (
            {"metadata_by_tag__tiny_arm__action_horizon": 31},
            "action_horizon 31 is over max_action_horizon 30",
        ),
        (
            {"metadata_by_tag__tiny_arm__n_action_steps": 31},
            "n_action_steps 31 is over its action_horizon 30",
        ),
        ({"metadata_by_tag__tiny_arm__action_horizon": 0}, "action_horizon is 0"),
        ({"metadata_by_tag__tiny_arm__state_stats": None}, "state_stats is missing"),
        ({"metadata_by_tag__tiny_arm__action_stats__q99": [1.0]}, "differ in length"),
        ({"metadata_by_tag__tiny_arm__state_stats__q01": None}, "has no 'q01'"),
    ],
)
def test_statistics_that_cannot_be_used_are_refused(folder, values, message):
    edit(folder / "norm_stats.json", **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder).session(norm_tag="tiny_arm")


def test_a_place_that_is_neither_folder_nor_hub_id_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="neither a folder nor a Hub id"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(("option", "value"), [("device", "gpu"), ("dtype", "int8")])
def test_an_unknown_device_or_type_is_refused(golden, option, value):
    with pytest.raises(InputError, match=f"{option} .{value}|{option} is .{value}"):
        MolmoAct2Policy.from_pretrained(golden.checkpoint, **{option: value})


@pytest.mark.parametrize(
    ("wanted", "message"),
    [({"graphs": True}, "graphs is for a GPU"), ({"unwatched": True}, "unwatched is for a GPU"),
     ({"compiled": True, "fused_expert": False}, "compiled needs fused_expert")],
)
def test_optimisations_that_would_do_nothing_are_refused_when_a_checkpoint_is_loaded(golden, wanted, message):
    with pytest.raises(InputError, match=message):
        MolmoAct2Policy.from_pretrained(golden.checkpoint, optimizations=Optimizations(**wanted))


# --- sessions ---------------------------------------------------------------------------------------------
def test_an_unknown_tag_lists_those_that_are_there(policy):
    assert policy.norm_tags == ("tiny_arm", "tiny_fast")
    with pytest.raises(
        InputError, match=r"'big_arm' is not in this checkpoint; it has \['tiny_arm', 'tiny_fast'\]"
    ):
        policy.session(norm_tag="big_arm")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": "deep"}, "depth is 'deep'"),
        ({"action_mode": "both"}, "action_mode is 'both'"),
        ({"cache_policy": "none"}, "cache_policy is 'none'"),
        ({"full_refresh_every": 0}, "full_refresh_every is 0"),
        ({"full_refresh_every": 3, "cache_policy": "reference"}, "needs cache_policy='bounded'"),
        ({"max_gap": float("nan")}, "max_gap"),
        ({"similarity_threshold": 0.0}, "similarity_threshold is 0.0"),
        ({"similarity_threshold": float("nan")}, "similarity_threshold is nan"),
        ({"action_mode": "discrete"}, "needs fast_tokenizer"),
    ],
)
def test_session_options_that_make_no_sense_are_refused(policy, options, message):
    with pytest.raises(InputError, match=message):
        policy.session(norm_tag="tiny_arm", **options)


def test_depth_is_refused_where_the_checkpoint_has_none(folder):
    edit(folder / "config.json", enable_depth_reasoning=False)
    policy = load(folder)
    policy.session(norm_tag="tiny_arm")
    for depth in ("full", "adaptive"):
        with pytest.raises(InputError, match="without depth reasoning"):
            policy.session(norm_tag="tiny_arm", depth=depth)


@pytest.mark.parametrize(("declared", "asked"), [("continuous", "discrete"), ("discrete", "continuous")])
def test_an_action_mode_the_checkpoint_was_not_made_for_is_refused(golden, folder, declared, asked):
    edit(folder / "config.json", action_mode=declared)
    with pytest.raises(InputError, match=f"no {asked} actions .config.json: action_mode is {declared!r}"):
        load(folder).session(norm_tag="tiny_arm", action_mode=asked, fast_tokenizer=golden.fast_tokenizer)


# --- requests ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def session(policy):
    return policy.session(norm_tag="tiny_arm")


FRAME = np.full((40, 60, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no image was given"),
        (FRAME, "expected a list"),
        ([FRAME, FRAME.astype(np.float32)], "image 1 is float32"),
        ([FRAME[..., :2]], r"image 0 has shape \(40, 60, 2\)"),
        ([FRAME[:, :, 0]], r"image 0 has shape \(40, 60\)"),
        ([FRAME[:0]], r"image 0 has shape \(0, 60, 3\)"),
        ([None], "image 0 is NoneType"),
    ],
)
def test_images_that_are_none_or_no_rgb_frames_are_refused(session, images, message):
    with pytest.raises(InputError, match=message):
        session.infer(images, STATE, "pick")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.zeros(6), r"state has shape \(6,\), norm tag 'tiny_arm' has 7 values"),
        (np.zeros((1, 7)), r"shape \(1, 7\)"),
        (np.array([0, 0, np.nan, 0, 0, 0, 0]), "state value 2 is nan"),
        (np.array([0, 0, 0, 0, 0, 0, np.inf]), "state value 6 is inf"),
        ("zeros", "not a vector of numbers"),
        (None, "state"),
    ],
)
def test_a_state_of_wrong_count_or_not_finite_is_refused(session, state, message):
    with pytest.raises(InputError, match=message):
        session.infer([FRAME], state, "pick")


def test_an_instruction_that_does_not_fit_the_prompt_is_refused_when_it_is_checked(session):
    session.check_instruction("pick up the cube", 2)
    with pytest.raises(InputError, match=r"the prompt would have \d+ tokens, the model reads 2048; shorten"):
        session.check_instruction("far " * 5000, 2)


@pytest.mark.parametrize("instruction", ["", "  ...  ", '""'])
def test_an_instruction_that_says_nothing_is_refused(session, instruction):
    with pytest.raises(InputError, match="says nothing"):
        session.infer([FRAME], STATE, instruction)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"num_steps": 2.5}, "num_steps is 2.5"),
        ({"n_action_steps": 31}, r"n_action_steps is 31, expected an integer 1\.\.30"),
        ({"noise": np.zeros((30, 7))}, r"noise has shape \(30, 7\)"),
        ({"noise": np.full((30, 32), np.nan)}, "not finite"),
        ({"seed": -1}, "seed is -1"),
        ({"frozen": 4}, "frozen is 4 but no prefix"),
        ({"prefix": np.zeros((30, 6))}, r"prefix has shape \(30, 6\), expected \(waypoints >= 1, 7\)"),
        ({"prefix": np.zeros((0, 7))}, "prefix has shape"),
        ({"prefix": np.full((3, 7), np.nan)}, "prefix waypoint 0 value 0 is nan"),
        ({"prefix": np.zeros((3, 7)), "frozen": 4}, "frozen is 4, but the prefix has 3 waypoints"),
        ({"prefix": np.zeros((3, 7)), "frozen": -1}, "frozen is -1"),
    ],
)
def test_options_of_a_call_that_make_no_sense_are_refused(session, options, message):
    with pytest.raises(InputError, match=message):
        session.infer([FRAME], STATE, "pick", **options)


def test_more_images_than_the_model_has_positions_are_refused(session):
    with pytest.raises(ModelError, match="the model has 2048 positions"):
        session.infer([FRAME] * 11, STATE, "pick")


def test_a_model_that_does_not_end_its_codes_is_an_error(folder):
    def never_end(tensors):
        tensors["lm_head.weight"][2574] = 0.0

    edit_weights(folder, never_end)
    session = load(folder).session(norm_tag="tiny_arm", depth="full")
    with pytest.raises(ModelError, match="<depth_end>"):
        session.infer([FRAME], STATE, "pick")


def test_actions_that_are_not_finite_are_an_error(folder):
    edit_weights(folder, lambda tensors: tensors["model.action_expert.final_layer.linear.bias"].fill_(np.inf))
    with pytest.raises(ModelError, match="not finite"):
        load(folder).session(norm_tag="tiny_arm").infer([FRAME], STATE, "pick")
