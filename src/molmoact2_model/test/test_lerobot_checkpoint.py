# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that LeRobot saved act as the released layout with the same weights, or are refused by name."""

import json
import shutil

import numpy as np
import pytest
from golden_set import compare
from lerobot_sets import (
    ALPHA,
    RANK,
    adapters,
    as_adapter,
    change,
    change_step,
    lerobot_folder,
    merged_release,
    with_lora_inside,
    write_json,
)
from safetensors.torch import load_file, save_file

from molmoact2_contract.cli import main
from molmoact2_model import CheckpointError, InputError, MolmoAct2Policy
from molmoact2_model.lerobot_processors import LeRobotNormalizer

BEFORE, BEHIND = "policy_preprocessor.json", "policy_postprocessor.json"


def load(folder, **options):
    return MolmoAct2Policy.from_pretrained(folder, **options)


def infer(golden, policy, name="flow", tag="lerobot", **options):
    """Of a golden case, with another norm tag."""
    if golden.cases[name]["action_mode"] == "discrete":
        options["fast_tokenizer"] = golden.fast_tokenizer
    session = policy.session(norm_tag=tag, action_mode=golden.cases[name]["action_mode"], **options)
    return session.infer(**golden.inputs(name))


@pytest.fixture
def folder(golden, tmp_path):
    return lerobot_folder(tmp_path / "saved", golden)


@pytest.mark.parametrize(("name", "tag"), [("flow", "tiny_arm"), ("flow_short", "tiny_arm"), ("discrete", "tiny_fast")])
def test_it_acts_as_the_released_layout_does_to_the_last_bit(golden, policy, tmp_path, name, tag):
    saved = load(lerobot_folder(tmp_path / "saved", golden, tag))
    result = infer(golden, saved, name)
    compare(golden, name, result)
    np.testing.assert_array_equal(result.actions, golden.run(policy, name).actions)


def test_depth_reasoning_is_the_bases(golden, tmp_path):
    saved = load(lerobot_folder(tmp_path / "saved", golden))
    result = infer(golden, saved, "think_1", depth="full")
    compare(golden, "think_1", result)


def test_the_policys_settings_take_the_place_of_the_bases(golden, tmp_path):
    folder = lerobot_folder(
        tmp_path / "saved", golden, chunk_size=36, n_action_steps=9, num_inference_steps=4, norm_tag="my_arm"
    )
    change_step(folder / BEFORE, "molmoact2_pack_inputs", setup_type="my arm", control_mode="poses")
    saved = load(folder)
    assert saved.norm_tags == ("my_arm",)
    tag = saved.stats.tag("my_arm")
    assert (tag.horizon, tag.n_action_steps, tag.setup_type, tag.control_mode) == (36, 9, "my arm", "poses")
    assert tag.camera_keys == ("observation.images.top", "observation.images.wrist")
    assert (saved.config.max_action_horizon, saved.config.flow.num_steps) == (36, 4)
    assert saved.stats.metadata["my_arm"]["action_stats"]["names"][0] == "joint_0.pos"
    inputs = golden.inputs("flow") | {"num_steps": None, "n_action_steps": None, "noise": None, "seed": 1}
    result = saved.session(norm_tag="my_arm").infer(**inputs)
    assert result.actions.shape == (9, 7)
    assert "<setup_start>my arm<setup_end>" in result.trace.prompt
    assert result.trace.warnings == ()


def test_renamed_cameras_have_the_names_of_the_data(folder):
    names = {"observation.images.cam0": "observation.images.top"}
    change_step(folder / BEFORE, "rename_observations_processor", rename_map=names)
    keys = load(folder).stats.tag("lerobot").camera_keys
    assert keys == ("observation.images.cam0", "observation.images.wrist")


def test_what_was_trained_for_flow_alone_gives_no_discrete_actions_and_else_acts_the_same(golden, policy, folder):
    change(folder / "config.json", action_mode="continuous")
    saved = load(folder)
    # LeRobot's inference goes by the base's mode in what it hides from the expert, whatever the policy was trained for.
    np.testing.assert_array_equal(infer(golden, saved).actions, golden.run(policy, "flow").actions)
    with pytest.raises(InputError, match="no discrete actions .config.json: action_mode is 'continuous'"):
        saved.session(norm_tag="lerobot", action_mode="discrete", fast_tokenizer=golden.fast_tokenizer)


# --- adapters ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def made(golden):
    return adapters(golden)


@pytest.fixture(scope="module")
def wanted(golden, made, tmp_path_factory):
    """Actions of the released layout with the adapters added by hand."""
    merged = merged_release(tmp_path_factory.mktemp("merged") / "release", golden, made)
    return infer(golden, load(merged), tag="tiny_arm").actions


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.ptp(wanted))


def test_adapters_change_what_is_done(golden, policy, wanted):
    assert np.abs(wanted - golden.run(policy, "flow").actions).max() > 0.05


def test_lora_inside_a_policy_is_added_to_its_weights(golden, folder, made, wanted):
    close(infer(golden, load(with_lora_inside(folder, golden, made))).actions, wanted)


def test_an_adapter_alone_is_added_to_the_released_weights(golden, folder, made, wanted):
    close(infer(golden, load(as_adapter(folder, made, None))).actions, wanted)


def test_an_adapter_is_added_to_the_policy_it_was_trained_on(golden, folder, tmp_path, made, wanted):
    under = lerobot_folder(tmp_path / "under", golden)
    close(infer(golden, load(as_adapter(folder, made, under))).actions, wanted)
    moved = under.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="base_model_name_or_path, the policy whose weights it adapts"):
        load(folder)
    with pytest.raises(CheckpointError, match="base_model_name_or_path, the policy whose weights it adapts"):
        load(folder, base_checkpoint=golden.checkpoint)    # other weights than it was trained on
    close(infer(golden, load(folder, base_checkpoint=moved)).actions, wanted)


def test_a_rank_stable_adapter_has_its_own_scale(golden, folder, tmp_path, made):
    merged = merged_release(tmp_path / "release", golden, made, scale=ALPHA / RANK**0.5)
    found = infer(golden, load(as_adapter(folder, made, None, use_rslora=True))).actions
    close(found, infer(golden, load(merged), tag="tiny_arm").actions)


def test_modules_that_an_adapter_keeps_whole_take_the_place_of_the_bases(golden, folder, tmp_path, made):
    name = "model.action_expert.action_embed.bias"
    as_adapter(folder, made, None)
    bias = load_file(golden.checkpoint / "model.safetensors")[name] + 0.5
    tensors = load_file(folder / "adapter_model.safetensors") | {f"base_model.model.model.{name}": bias}
    save_file(tensors, folder / "adapter_model.safetensors")
    merged = merged_release(tmp_path / "release", golden, made)
    save_file(load_file(merged / "model.safetensors") | {name: bias}, merged / "model.safetensors")
    close(infer(golden, load(folder)).actions, infer(golden, load(merged), tag="tiny_arm").actions)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out is True"),
        ({"alpha_pattern": {"w1": 4}}, "alpha_pattern is"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_adapters_of_other_kinds_are_refused(folder, made, config, message):
    with pytest.raises(CheckpointError, match=message):
        load(as_adapter(folder, made, None, **config))


def test_half_an_adapter_is_refused(folder, made):
    as_adapter(folder, made, None)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="one half of a pair"):
        load(folder)


def test_an_adapter_of_another_size_is_refused(folder, made):
    module, (down, up) = next(iter(made.items()))
    as_adapter(folder, made | {module: (down[:, :-1].contiguous(), up)}, None)
    with pytest.raises(CheckpointError, match=f"the adapter of {module}.weight has shapes"):
        load(folder)


# --- normalisation ----------------------------------------------------------------------------------------
FIGURES = {
    "q01": [-2.0, 0.5, 0.0], "q99": [2.0, 0.5, 1.0], "q10": [-1.0, 0.5, 0.2], "q90": [1.5, 0.5, 0.8],
    "min": [-3.0, 0.5, 0.0], "max": [3.0, 0.5, 1.0], "mean": [0.1, 0.5, 0.4], "std": [0.7, 0.0, 0.3],
    "mask": [True, True, False], "eps": 1e-8,
}  # fmt: skip
BOUNDS = {"q01_q99": ("q01", "q99"), "q10_q90": ("q10", "q90"), "min_max": ("min", "max")}


@pytest.mark.parametrize("mode", [*BOUNDS, "mean_std", "none"])
def test_numbers_are_scaled_as_lerobot_says(mode):
    """Its rule, written down once more: eps only where a value never moved, everything clipped, masked ones as they
    are."""
    made, random = LeRobotNormalizer(FIGURES, mode, "figures"), np.random.default_rng(0)
    given = {key: np.asarray(value, np.float64) for key, value in FIGURES.items()}
    values = random.normal(0, 2, (50, 3))
    values[:, 1] = 0.5
    inside = random.uniform(-1.5, 1.5, (50, 3))
    cut = np.clip(inside, -1, 1)
    if mode in BOUNDS:
        low, high = (given[key] for key in BOUNDS[mode])
        span = np.where(high == low, 1e-8, high - low)
        there, back = 2 * (values - low) / span - 1, (cut + 1) / 2 * span + low
    elif mode == "mean_std":
        there, back = (values - given["mean"]) / (given["std"] + 1e-8), cut * given["std"] + given["mean"]
    else:
        there, back = values, cut
    there = np.clip(np.where(FIGURES["mask"], there, values), -1, 1)
    back = np.where(FIGURES["mask"], back, cut)
    np.testing.assert_allclose(made.normalize(values.astype(np.float32)), there, atol=2e-6)
    np.testing.assert_allclose(made.unnormalize(inside.astype(np.float32)), back, atol=2e-6)
    if mode in BOUNDS:
        assert (made.normalize(values.astype(np.float32))[:, 1] == -1).all()    # of the release: 0


def test_a_joint_frame_is_undone_both_ways(golden, tmp_path):
    """What the policy says in the model's frame, it does in the arm's."""
    signs, offsets = [1.0, -1.0, 1.0], [0.0, 0.25, -0.5]
    plain = load(lerobot_folder(tmp_path / "plain", golden))
    turned = load(lerobot_folder(tmp_path / "turned", golden, joint_signs=signs, joint_offsets=offsets))
    inputs = golden.inputs("flow")
    sign = np.array([*signs, 1, 1, 1, 1], np.float32)
    offset = np.array([*offsets, 0, 0, 0, 0], np.float32)
    wanted = plain.session(norm_tag="lerobot").infer(**inputs)
    arm = sign * (inputs["state"] - offset)
    found = turned.session(norm_tag="lerobot").infer(**inputs | {"state": arm})
    np.testing.assert_array_equal(found.trace.input_ids, wanted.trace.input_ids)
    np.testing.assert_allclose(found.actions, sign * (wanted.actions - offset), atol=1e-6)


# --- refusals ---------------------------------------------------------------------------------------------
def test_the_base_may_lie_elsewhere_and_is_asked_for_by_name(golden, folder, policy):
    change(folder / "config.json", checkpoint_path="/nowhere/MolmoAct2")
    with pytest.raises(CheckpointError, match="checkpoint_path.*tokenizer and sizes.*base_checkpoint"):
        load(folder)
    found = infer(golden, load(folder, base_checkpoint=golden.checkpoint))
    np.testing.assert_array_equal(found.actions, golden.run(policy, "flow").actions)


def test_a_base_that_is_no_base_is_refused(golden, folder, tmp_path):
    with pytest.raises(InputError, match="has the released layout"):
        load(golden.checkpoint, base_checkpoint=golden.checkpoint)
    other = lerobot_folder(tmp_path / "other", golden)
    with pytest.raises(CheckpointError, match="without tokenizer and sizes"):
        load(folder, base_checkpoint=other)


def test_a_base_of_other_sizes_is_refused(golden, folder, tmp_path):
    base = shutil.copytree(golden.checkpoint, tmp_path / "base")
    content = json.loads((base / "config.json").read_text())
    content["text_config"]["intermediate_size"] = 128
    write_json(base / "config.json", content)
    with pytest.raises(CheckpointError, match="ff_proj.weight has shape"):
        load(folder, base_checkpoint=base)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", BEFORE, BEHIND])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing in {folder}"):
        load(folder)


def test_missing_statistics_are_named(folder):
    file = next(folder.glob("policy_postprocessor_step_*"))
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name} is missing in {folder}; it holds the statistics of action"):
        load(folder)


def test_a_normaliser_that_was_never_filled_is_refused(folder):
    """LeRobot would pass joint values unscaled."""
    content = json.loads((folder / BEFORE).read_text())
    for step in content["steps"]:
        step.pop("state_file", None)
    write_json(folder / BEFORE, content)
    with pytest.raises(CheckpointError, match="names no file with statistics"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (BEFORE, lambda steps: steps.append({"registry_name": "noise"}), "step noise is not known"),
        (BEHIND, lambda steps: steps.pop(0), "step molmoact2_clamp_action is missing"),
        (BEHIND, lambda steps: steps.reverse(), "order"),
    ],
)
def test_steps_that_would_do_something_else_are_refused(folder, file, edit, message):
    content = json.loads((folder / file).read_text())
    edit(content["steps"])
    write_json(folder / file, content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "act"}, "the policy's type is 'act'"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"n_action_steps": 31}, "n_action_steps 31 is over its action_horizon 30"),
        ({"action_mode": "all"}, "action_mode is 'all'"),
        ({"output_features": {"action": {"shape": [6]}}}, r"actions have shape \[6\], the statistics 7 values"),
        ({"checkpoint_path": ""}, "has no checkpoint_path"),
        ({"use_peft": True}, "adapter_config.json is missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(folder, values, message):
    change(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("file", "step", "values", "message"),
    [
        (BEFORE, "molmoact2_pack_inputs", {"normalize_language": False}, "normalize_language is false"),
        (BEFORE, "molmoact2_pack_inputs", {"num_state_tokens": 128}, "the policy has 128 state tokens"),
        (BEFORE, "molmoact2_masked_normalizer", {"norm_map": {"STATE": "MIN_MAX"}}, "normalises states by MIN_MAX"),
        (BEHIND, "molmoact2_action_frame_transform", {"joint_signs": [2.0]}, "joint signs are .2.0., expected 1 or -1"),
        (BEHIND, "molmoact2_action_frame_transform", {"joint_offsets": [0.0] * 8}, "expected up to 7 numbers"),
    ],
)
def test_steps_set_otherwise_than_this_engine_can_are_refused(golden, folder, file, step, values, message):
    change_step(folder / file, step, **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_weights_of_another_model_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.weight"] = tensors.pop("model.lm_head.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing: lm_head.weight; not expected: vision_tower.weight"):
        load(folder)


def test_the_folder_of_a_training_step_says_where_the_checkpoint_is(golden, tmp_path):
    lerobot_folder(tmp_path / "005000" / "pretrained_model", golden)
    with pytest.raises(CheckpointError, match="005000/pretrained_model, name that"):
        load(tmp_path / "005000")


def test_infer_takes_the_base_by_option(golden, folder, tmp_path, scene):
    from PIL import Image

    change(folder / "config.json", checkpoint_path="/nowhere/MolmoAct2")
    Image.fromarray(scene).save(tmp_path / "scene.png")
    command = ["infer", "--checkpoint", str(folder), "--image", str(tmp_path / "scene.png"), "--tag", "lerobot"]
    command += ["--state", "0,0,0,0,0,0,0", "--instruction", "wave", "--seed", "1", "--num-steps", "2"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert main([*command, "--base-checkpoint", str(golden.checkpoint)]) == 0
    assert np.load(tmp_path / "out" / "actions.npy").shape == (30, 7)
    assert (tmp_path / "out" / "actions.csv").read_text().startswith("waypoint,joint_0.pos,")
