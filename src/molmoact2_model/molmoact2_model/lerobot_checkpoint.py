# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that LeRobot's MolmoAct2 policy saved (facts of lerobot 0.6.1): whole, with LoRA inside, or an adapter
alone.

They have no tokenizer and no sizes of the model: those are in the released checkpoint that training began from, their
base, which config.json names in `checkpoint_path`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from .checkpoint import HUB_FILES, Reader, find_checkpoint, open_tensors, open_weights
from .config import ACTION_MODES, MODEL_TYPE, ModelConfig, read_json
from .errors import CheckpointError, InputError
from .lerobot_processors import ACTION, STATE, LeRobotNormalizer, Processors
from .lerobot_weights import POLICY, WRAPPED, check_adapter, merged, released_names
from .normalization import NormStats
from .source import Source, Weights, released

CONFIG, ADAPTER, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
INSIDE = "pretrained_model"    # where LeRobot's training puts a checkpoint in the folder of a step
TAG = "lerobot"    # where the policy has no norm tag
_MEND = "name the folder of that checkpoint: base_checkpoint (molmoact2 infer: --base-checkpoint)"


def open_checkpoint(path_or_hub_id: str | Path, base: str | Path | None = None) -> Source:
    """Opens a checkpoint of either layout. base: of LeRobot's, folder or Hub id instead of the one it names. Errors:
    CheckpointError, InputError."""
    folder = find_checkpoint(path_or_hub_id)
    if not (folder / CONFIG).is_file() and (folder / INSIDE / CONFIG).is_file():
        raise CheckpointError(f"{CONFIG} is missing in {folder}; LeRobot's checkpoint is {folder / INSIDE}, name that")
    raw = read_json(folder / CONFIG)
    if _is_lerobot(raw):
        return _lerobot(folder, raw, base)
    if base:
        raise InputError(f"base_checkpoint is for checkpoints that LeRobot saved; {folder} has the released layout")
    return released(folder, raw)


def _is_lerobot(raw: Mapping[str, Any]) -> bool:
    return "type" in raw and "model_type" not in raw


def _lerobot(folder: Path, raw: Mapping[str, Any], base: str | Path | None) -> Source:
    if raw["type"] != MODEL_TYPE:
        raise CheckpointError(
            f"{folder / CONFIG}: the policy's type is {raw['type']!r}, expected {MODEL_TYPE!r}; LeRobot's other "
            "policies are not run by this engine"
        )
    if (folder / ADAPTER).is_file() or raw.get("use_peft"):
        origin, weights = _adapter(folder, raw, base)
    else:
        origin, weights = _base(folder, raw, base, ("*.json",)), _whole(folder, raw)
    processors = Processors(folder)
    config = _config(folder, raw, origin, processors)
    return Source(config, _stats(folder, raw, config, processors), origin, weights)


# --- weights ----------------------------------------------------------------------------------------------
def _whole(folder: Path, raw: Mapping[str, Any]) -> Weights:
    inside = bool(raw.get("enable_lora_vlm"))
    if inside:
        check_adapter({"peft_type": "LORA", "lora_alpha": raw.get("lora_alpha")}, str(folder / CONFIG))

    def opened(stack: ExitStack) -> Mapping[str, Reader]:
        tensors = open_weights(folder, stack)
        if not inside:
            return released_names(tensors, POLICY)
        return merged(released_names(tensors, POLICY + WRAPPED), raw["lora_alpha"])

    return opened


def _adapter(folder: Path, raw: Mapping[str, Any], base: str | Path | None) -> tuple[Path, Weights]:
    """The released checkpoint with the files, and the weights with the adapter added."""
    for name in (ADAPTER, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing in {folder}; config.json says that the policy is an adapter")
    adapter = read_json(folder / ADAPTER)
    check_adapter(adapter, str(folder / ADAPTER))
    origin, below = _under(folder, raw, adapter.get("base_model_name_or_path"), base)

    def opened(stack: ExitStack) -> Mapping[str, Reader]:
        tensors = open_tensors(folder / ADAPTER_WEIGHTS, stack)
        both = {**below(stack), **released_names(tensors, WRAPPED + POLICY)}
        return merged(both, adapter["lora_alpha"], bool(adapter.get("use_rslora")))

    return origin, opened


def _under(
    folder: Path, raw: Mapping[str, Any], named: str | None, base: str | Path | None
) -> tuple[Path, Weights]:
    """The released checkpoint with the files, and the weights that an adapter is added to: the released ones, or those
    of a policy, `named`, that was trained before. base: either of both."""
    if not named:
        origin = _base(folder, raw, base, HUB_FILES)
        return origin, partial(open_weights, origin)
    given = find_checkpoint(base) if base else None
    if given is not None and _is_lerobot(read_json(given / CONFIG)):
        policy, base = given, None
    else:
        try:
            policy = find_checkpoint(named)
        except CheckpointError as error:
            raise CheckpointError(
                f"{folder / ADAPTER}: base_model_name_or_path, the policy whose weights it adapts, cannot be had: "
                f"{error}; {_MEND}"
            ) from None
    below = read_json(policy / CONFIG)
    if not _is_lerobot(below):
        return policy, partial(open_weights, policy)
    source = _lerobot(policy, below, base)
    return source.files, source.weights


def _base(folder: Path, raw: Mapping[str, Any], given: str | Path | None, files: Sequence[str]) -> Path:
    """The released checkpoint that a policy began from. files: what is needed of it."""
    named, revision = str(raw.get("checkpoint_path") or ""), raw.get("checkpoint_revision")
    if not given and not named:
        raise CheckpointError(f"{folder / CONFIG} has no checkpoint_path, where tokenizer and sizes are; {_MEND}")
    if named and revision and not Path(named).expanduser().is_dir():
        named = f"{named}@{revision}"
    try:
        found = find_checkpoint(given or named, files)
    except CheckpointError as error:
        if given:
            raise
        raise CheckpointError(
            f"{folder / CONFIG}: checkpoint_path, where tokenizer and sizes are, cannot be had: {error}; {_MEND}"
        ) from None
    if _is_lerobot(read_json(found / CONFIG)):
        raise CheckpointError(
            f"{found} is a checkpoint of LeRobot's too, without tokenizer and sizes; name the released one "
            "that it began from"
        )
    return found


# --- settings ---------------------------------------------------------------------------------------------
def _config(folder: Path, raw: Mapping[str, Any], origin: Path, processors: Processors) -> ModelConfig:
    """The base's, with what the policy was trained to do instead."""
    prompt, where = processors.prompt, folder / CONFIG
    changed = {
        "max_action_horizon": _count(raw, "chunk_size", where),
        "n_obs_steps": 1,
        "add_setup_tokens": prompt.get("add_setup_tokens", True),
        "add_control_tokens": prompt.get("add_control_tokens", True),
    }
    if raw.get("num_inference_steps") is not None:
        changed["flow_matching_num_steps"] = _count(raw, "num_inference_steps", where)
    config = ModelConfig.from_dict({**read_json(origin / CONFIG), **changed})
    states, mode = prompt.get("num_state_tokens"), raw.get("action_mode", "both")
    if states != config.state_tokens.count:
        raise CheckpointError(
            f"{folder}: the policy has {states} state tokens, the base {origin} {config.state_tokens.count}"
        )
    if mode not in ACTION_MODES or (mode == "both" != config.action_mode):
        raise CheckpointError(
            f"{where}: action_mode is {mode!r}, that of the base {origin} {config.action_mode!r}; expected "
            f"one of {', '.join(ACTION_MODES)}, and 'both' only of a base with both"
        )
    return dataclasses.replace(config, trained_mode=mode)


def _stats(folder: Path, raw: Mapping[str, Any], config: ModelConfig, processors: Processors) -> NormStats:
    """One norm tag, in the form of norm_stats.json."""
    state, action = processors.stats()
    features, names = raw.get("input_features") or {}, raw.get("dataset_feature_names") or {}
    for figures, key in ((state, STATE), (action, ACTION)):
        if isinstance(names.get(key), list):
            figures["names"] = names[key]
    tag = str(raw.get("norm_tag") or TAG)
    entry = {
        "action_key": ACTION,
        "state_keys": [STATE],
        "camera_keys": processors.cameras(features),
        "action_dim": config.max_action_dim,
        "action_horizon": config.max_action_horizon,
        "n_action_steps": _count(raw, "n_action_steps", folder / CONFIG),
        "setup_type": processors.prompt.get("setup_type") or "",
        "control_mode": processors.prompt.get("control_mode") or "",
        "state_stats": state,
        "action_stats": action,
    }
    content = {"norm_mode": processors.mode, "metadata_by_tag": {tag: entry}}
    stats = NormStats(
        content, config.max_action_dim, config.max_action_horizon, f"{folder}: statistics", LeRobotNormalizer
    )
    shape = ((raw.get("output_features") or {}).get(ACTION) or {}).get("shape")
    if shape != [stats.tag(tag).action.dim]:
        raise CheckpointError(
            f"{folder / CONFIG}: actions have shape {shape}, the statistics {stats.tag(tag).action.dim} values"
        )
    return stats


def _count(raw: Mapping[str, Any], key: str, where: Path) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{where}: {key} is {value!r}, expected an integer >= 1")
    return value
