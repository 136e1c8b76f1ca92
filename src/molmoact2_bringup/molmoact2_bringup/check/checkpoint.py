# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint's files say, before its weights are loaded, held against the contract. No ROS here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from molmoact2_contract import Contract, NormTag
from molmoact2_model import ModelError
from molmoact2_model.engine_options import NO_OFFLOAD, STORED
from molmoact2_model.footprint import block_weights, copied, saved
from molmoact2_model.lerobot_checkpoint import open_checkpoint
from molmoact2_policy.backend import Settings

from .line import Line, failed, passed, skipped, warned
from .ranges import Ranges, limits_line, names_line, ranges_of, units_line

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FILES, TAG, FIT = "checkpoint files", "norm tag", "model camera order"


@dataclass(frozen=True)
class Known:
    """steps: waypoints of a chunk; seen, asked: ranges of state and actions in training, None where not given;
    weights: bytes of them once loaded."""

    steps: int
    seen: Ranges | None
    asked: Ranges | None
    weights: int


def look(settings: Settings, contract: Contract, tag: NormTag) -> tuple[list[Line], Known | None]:
    """The lines, and what is known of the checkpoint; None where it cannot be used."""
    try:
        source = open_checkpoint(settings.checkpoint, settings.base_checkpoint or None)
        size = sum(weights_in(file) for file in weight_files(Path(source.files))) * BYTES[settings.dtype]
        text, bytes_ = source.config.text, BYTES[settings.dtype]
        size -= round(saved(text, bytes_, settings.language_weights))
        if settings.offload != NO_OFFLOAD:
            size -= block_weights(text) * bytes_ - copied(text, bytes_)
    except (ModelError, OSError, ValueError) as error:
        mend = "name a checkpoint that is here: policy.checkpoint in the system file (docs/checkpoints.md)"
        return [failed(FILES, str(error), mend)], None
    kinds = settings.dtype
    if settings.language_weights != STORED:
        kinds += f", those of the language model's blocks as {settings.language_weights}"
    if settings.offload != NO_OFFLOAD:
        kinds += ", the language model's blocks but for those in use in main memory"
    lines = [passed(FILES, f"{settings.checkpoint}: {size / 1e6:.0f} MB of weights as {kinds}")]
    try:
        stats = source.stats.tag(settings.norm_tag)
    except ModelError as error:
        mend = "set policy.norm_tag to that of this robot; the contract must have an entry for it"
        return [*lines, failed(TAG, str(error), mend)], None
    steps = settings.n_action_steps or stats.n_action_steps
    offset = "" if tag.first_offset_known else " (assumed: its training does not say)"
    lines.append(passed(
        TAG, f"{tag.name}: {stats.setup_type or 'no set-up named'}; {steps} waypoints, one each {tag.dt:.4g} s, the "
        f"first {tag.first_offset:g} after the observation{offset}",
    ))
    lines.append(modes_line(settings, source.config))
    lines.append(cameras_line(stats.camera_keys, tag))
    entry = source.stats.metadata[settings.norm_tag]
    state, action = entry.get("state_stats") or {}, entry.get("action_stats") or {}
    names = names_line(state.get("names") or (), stats.state.dim, contract)
    seen, asked = (ranges_of(figures, contract, tag) for figures in (state, action))
    lines += [names, units_line(seen, contract), limits_line(asked, contract)]
    usable = stats.state.dim == stats.action.dim == len(contract.joints)
    return lines, Known(steps, seen, asked, size) if usable else None


def modes_line(settings: Settings, config: Any) -> Line:
    """Whether the checkpoint can do what the policy is set to. config: the model library's ModelConfig."""
    what = "depth and actions"
    if settings.depth != "off" and config.depth is None:
        text = f"depth is {settings.depth}, and this checkpoint has no depth tokens"
        return failed(what, text, "set policy.depth=off")
    mode = settings.action_mode
    able = config.supports_continuous if mode == "continuous" else config.supports_discrete
    if not able:
        other = "discrete" if mode == "continuous" else "continuous"
        return failed(what, f"the checkpoint has no {mode} actions", f"set policy.action_mode={other}")
    if mode == "discrete" and not settings.fast_tokenizer:
        return failed(what, "discrete actions need an action tokenizer", "set policy.fast_tokenizer to its folder")
    return passed(what, f"depth {settings.depth}, {mode} actions")


def cameras_line(keys: Sequence[str], tag: NormTag) -> Line:
    """The tag's cameras in training against those of the contract, in the model's order."""
    ours, theirs = list(tag.cameras), [key.rpartition(".")[2] for key in keys]
    if not theirs:
        return warned(
            FIT, f"the checkpoint does not say which cameras it had; the contract has {_listed(ours)}",
            "see in its card how many there were, and in which order",
        )
    if len(theirs) != len(ours):
        return failed(
            FIT, f"the checkpoint had {len(theirs)} cameras ({_listed(theirs)}), the contract has {len(ours)} "
            f"({_listed(ours)})", f"give norm tag {tag.name} of the contract as many cameras, in that order",
        )
    if theirs == ours:
        return passed(FIT, f"{_listed(ours)}, as in training")
    if sorted(theirs) == sorted(ours):
        return failed(
            FIT, f"in training it was {_listed(theirs)}, the contract has {_listed(ours)}",
            f"put the cameras of norm tag {tag.name} in that order",
        )
    return warned(
        FIT, f"{_listed(ours)} stand for {_listed(theirs)} of training", "see that each shows what that one showed",
    )


def _listed(cameras: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(cameras, 1))


def unknown(why: str) -> list[Line]:
    """The lines of a checkpoint whose files are not here."""
    return [skipped(name, why) for name in (FILES, TAG, FIT)]


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def weights_in(file: Path) -> int:
    """How many numbers a safetensors file holds, by its header. Errors: OSError, ValueError."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= file.stat().st_size - 8:
            raise ValueError(f"{file} is no whole safetensors file; fetch it again")
        header = json.loads(stream.read(length))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
