# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as LeRobot 0.6.1 saves them, made from the golden one: the same names of weights, files and settings."""

import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file

STATE, ACTION = "observation.state", "action"
# Modules that a LoRA of LeRobot's adapts, of each kind.
ADAPTED = (
    "model.transformer.blocks.0.self_attn.att_proj",
    "model.transformer.blocks.2.mlp.ff_proj",
    "model.vision_backbone.image_vit.transformer.resblocks.1.feed_forward.w1",
    "model.vision_backbone.image_projector.w2",
)
RANK, ALPHA = 3, 16


def lerobot_folder(folder, golden, tag="tiny_arm", stats=None, **config):
    """A folder with the golden weights and a norm tag's statistics. stats: instead of the tag's, by feature. config:
    changes of the policy's config.json."""
    folder.mkdir(parents=True)
    entry = json.loads((golden.checkpoint / "norm_stats.json").read_text())["metadata_by_tag"][tag]
    stats = stats or {STATE: entry["state_stats"], ACTION: entry["action_stats"]}
    policy = _policy(golden, entry, stats) | config
    write_json(folder / "config.json", policy)
    write_processors(folder, policy, entry, stats)
    weights = load_file(golden.checkpoint / "model.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def _policy(golden, entry, stats):
    cameras = {key: {"type": "VISUAL", "shape": [3, 48, 64]} for key in reversed(entry["camera_keys"])}
    width = {feature: len(figures["q01"]) for feature, figures in stats.items()}
    return {
        "type": "molmoact2",
        "n_obs_steps": 1,
        "input_features": cameras | {STATE: {"type": "STATE", "shape": [width[STATE]]}},
        "output_features": {ACTION: {"type": "ACTION", "shape": [width[ACTION]]}},
        "use_peft": False,
        "checkpoint_path": str(golden.checkpoint),
        "checkpoint_revision": None,
        "chunk_size": entry["action_horizon"],
        "n_action_steps": entry["n_action_steps"],
        "action_mode": "both",
        "inference_action_mode": None,
        "norm_tag": None,
        "num_inference_steps": None,
        "joint_signs": None,
        "joint_offsets": None,
        "enable_lora_vlm": False,
        "lora_rank": 64,
        "lora_alpha": 16,
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"},
        "dataset_feature_names": {feature: [f"joint_{i}.pos" for i in range(width[feature])] for feature in stats},
    }


def write_processors(folder, policy, entry, stats):
    frame = {key: policy[key] for key in ("joint_signs", "joint_offsets")}
    features = {**policy["input_features"], **policy["output_features"]}
    norm = {"eps": 1e-8, "features": features, "norm_map": policy["normalization_mapping"]}
    pack = {
        "checkpoint_path": policy["checkpoint_path"], "action_mode": policy["action_mode"],
        "image_keys": entry["camera_keys"], "setup_type": entry["setup_type"], "control_mode": entry["control_mode"],
        "normalize_language": True, "add_setup_tokens": True, "add_control_tokens": True, "num_state_tokens": 256,
        "chunk_size": policy["chunk_size"], "max_action_dim": 32,
    }  # fmt: skip
    before = {
        "rename_observations_processor": {"rename_map": {}}, "to_batch_processor": {},
        "molmoact2_state_frame_transform": frame, "molmoact2_masked_normalizer": norm,
        "molmoact2_clamp_normalized": {}, "molmoact2_pack_inputs": pack, "device_processor": {"device": "cpu"},
    }  # fmt: skip
    behind = {
        "molmoact2_clamp_action": {}, "molmoact2_masked_unnormalizer": norm, "molmoact2_action_frame_transform": frame,
        "device_processor": {"device": "cpu"},
    }  # fmt: skip
    tensors = {
        f"{feature}.{key}": torch.tensor(values, dtype=torch.float32)
        for feature, figures in stats.items()
        for key, values in figures.items()
        if key != "names"
    }
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", behind)):
        listed = []
        for index, (step, config) in enumerate(steps.items()):
            listed.append({"registry_name": step, "config": config})
            if step.endswith("normalizer"):
                listed[-1]["state_file"] = f"{name}_step_{index}_{step}.safetensors"
                save_file(tensors, folder / listed[-1]["state_file"])
        write_json(folder / f"{name}.json", {"name": name, "steps": listed})


def adapters(golden, seed=3):
    """Module -> A (rank, in) and B (out, rank)."""
    random, weights = np.random.default_rng(seed), load_file(golden.checkpoint / "model.safetensors")
    made = {}
    for module in ADAPTED:
        rows, columns = weights[f"{module}.weight"].shape
        made[module] = tuple(
            torch.from_numpy(random.normal(0, 0.1, shape).astype(np.float32))
            for shape in ((RANK, columns), (rows, RANK))
        )
    return made


def with_lora_inside(folder, golden, made):
    """Changes a folder to what policy.enable_lora_vlm saves."""
    weights = load_file(golden.checkpoint / "model.safetensors")
    tensors = {}
    for name, tensor in weights.items():
        module, _, leaf = name.rpartition(".")
        adapted = f"{module}.base_layer.{leaf}" if module in made else name
        tensors[f"model.base_model.model.{adapted}"] = tensor
    for module, (down, up) in made.items():
        tensors[f"model.base_model.model.{module}.lora_A.default.weight"] = down
        tensors[f"model.base_model.model.{module}.lora_B.default.weight"] = up
    save_file(tensors, folder / "model.safetensors")
    change(folder / "config.json", enable_lora_vlm=True, lora_rank=RANK, lora_alpha=ALPHA)
    return folder


def as_adapter(folder, made, base, **config):
    """Changes a folder to what --peft saves: the adapter alone."""
    (folder / "model.safetensors").unlink()
    tensors = {}
    for module, (down, up) in made.items():
        tensors[f"base_model.model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.model.{module}.lora_B.weight"] = up
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    plain = {
        "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_dora": False, "use_rslora": False,
        "fan_in_fan_out": False, "lora_bias": False, "alpha_pattern": {}, "rank_pattern": {}, "modules_to_save": [],
        "base_model_name_or_path": None if base is None else str(base), "trainable_token_indices": None,
    }  # fmt: skip
    write_json(folder / "adapter_config.json", plain | config)
    change(folder / "config.json", use_peft=True)
    return folder


def merged_release(folder, golden, made, scale=ALPHA / RANK):
    """The golden checkpoint with the adapters added by hand."""
    folder.mkdir()
    for file in golden.checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(golden.checkpoint / "model.safetensors")
    for module, (down, up) in made.items():
        weights[f"{module}.weight"] = weights[f"{module}.weight"] + scale * up @ down
    save_file(weights, folder / "model.safetensors")
    return folder


def change(path, **values):
    write_json(path, json.loads(path.read_text()) | values)


def change_step(path, step, **values):
    content = json.loads(path.read_text())
    next(one for one in content["steps"] if one["registry_name"] == step)["config"].update(values)
    write_json(path, content)


def write_json(path, content):
    path.write_text(json.dumps(content, indent=1))
