# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe starts from: a checkpoint, or a new network of stated sizes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from molmoact2_data.layout import IMAGES

from ..blueprint import EXPERT, Blueprint, make_config, make_tokenizer, write_files
from ..checkpoint import Network, find_checkpoint, load_network, weight_files
from ..config import ModelConfig, read_json
from ..errors import InputError
from ..fast import FastTokenizer
from ..images import ImageConfig, load_image_config
from ..memory import free_memory
from ..normalization import NormStats, TagStats
from ..processing import PromptBuilder, check_vocabulary, load_tokenizer
from .annotations import add_codebook, check_places, check_questions
from .digests import amounts, digests
from .fresh import fresh_network, with_expert
from .recipe import Recipe
from .samples import Sampler
from .saving import FETCHED, copy_files


@dataclass(frozen=True)
class Beginning:
    """Everything that training needs besides data. files: folder with all files of the checkpoint but the weights.
    digests: of what the recipe names by its place alone; amounts: how much the data sets have; note: what is to be
    known of it, in words, else empty."""

    network: Network
    images: ImageConfig
    stats: NormStats
    tokenizer: Tokenizer
    tag: TagStats
    sampler: Sampler
    files: Path
    digests: dict[str, str]
    amounts: dict[str, str]
    note: str = ""


def begin(recipe: Recipe, work: Path) -> Beginning:
    """work: an empty folder for the files. Errors: ModelError, DatasetError."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{work} cannot be made ({error.strerror}); choose another --out") from None
    source, attached = None, ""
    if recipe.start.blueprint:
        _write_new(recipe, work)
    else:
        source = find_checkpoint(recipe.start.checkpoint, FETCHED)
        copy_files(source, work)
        attached = _add_expert(recipe, work) if recipe.start.expert else ""
    config = ModelConfig.from_dict(read_json(work / "config.json"))
    if recipe.start.norm_stats:
        shutil.copyfile(_existing(recipe.start.norm_stats), work / config.norm_stats_filename)
    _check_head(recipe, config)
    places = check_places(recipe) if recipe.mix.places else ""
    questions = check_questions(recipe) if recipe.mix.questions else ""
    codes = add_codebook(recipe, work) if recipe.mix.depth or recipe.mix.depth_action else {}
    images, tokenizer = load_image_config(work, config.vision), load_tokenizer(work)
    check_vocabulary(config, tokenizer)
    stats = NormStats.from_file(work / config.norm_stats_filename, config.max_action_dim, config.max_action_horizon)
    tag = stats.tag(recipe.norm_tag)
    note = "\n".join(part for part in (attached, places, questions, _check_cameras(recipe, tag)) if part)
    if source is None:
        network = fresh_network(config, recipe.run.seed)
    else:
        before = ModelConfig.from_dict(read_json(source / "config.json"))
        network = load_network(source, before, torch.device("cpu"), torch.float32)
        if before.expert is None and config.expert is not None:
            network = with_expert(network, config, recipe.run.seed)
    prompts = PromptBuilder(config, images, tokenizer, tag)
    fast = _fast(recipe, config)
    sampler = Sampler(config, images, prompts, tag, recipe.cameras, recipe.mix, recipe.augment, fast)
    known = digests(stats, recipe.norm_tag, codes, recipe.start.fast_tokenizer, source)
    held = amounts(recipe.data)
    return Beginning(network, images, stats, tokenizer, tag, sampler, work, known, held, note)


def _fast(recipe: Recipe, config: ModelConfig) -> FastTokenizer | None:
    if not recipe.start.fast_tokenizer:
        return None
    fast = FastTokenizer.from_folder(recipe.start.fast_tokenizer)
    if config.action_tokens is not None and fast.vocab_size > config.action_tokens.count:
        raise InputError(
            f"the FAST tokenizer has {fast.vocab_size} tokens, the checkpoint {config.action_tokens.count} for actions"
        )
    return fast


def _write_new(recipe: Recipe, work: Path) -> None:
    known = {field.name for field in dataclasses.fields(Blueprint)}
    unknown = sorted(set(recipe.start.blueprint) - known)
    if unknown:
        raise InputError(f"start.blueprint has no {unknown[0]!r}; it has: {', '.join(sorted(known))}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.start.blueprint.items()}
    stats = read_json(_existing(recipe.start.norm_stats))
    try:
        blueprint = Blueprint(**values)
        tokenizer, vocab_size = make_tokenizer(blueprint)
        config = make_config(blueprint, tokenizer, vocab_size)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(f"start.blueprint is of no network: {error!r}; compare its values with blueprint.py") from None
    write_files(work, blueprint, config, tokenizer, stats)


def check_room(recipe: Recipe) -> None:
    """That main memory holds the weights as they are loaded, by every process of this machine. To be called in all of
    them before any loads. Errors: ModelError."""
    if recipe.start.blueprint:
        return
    source, count = find_checkpoint(recipe.start.checkpoint, FETCHED), 0
    for name in weight_files(source):
        try:
            with safe_open(source / name, framework="pt") as file:
                count += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())    # noqa: SIM118
        except (OSError, SafetensorError):
            return    # who loads it says what is wrong with it
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, (free, of) = 4 * count * beside, free_memory("cpu")
    if needed > free:
        times = f" in each of {beside} processes" if beside > 1 else ""
        raise InputError(
            f"the weights of {source} take {4 * count / 1e9:.1f} GB{times} while they are loaded, and {free / 1e9:.1f} "
            f"GB of {of} are free; end other programs, or use a machine with more"
        )


def _add_expert(recipe: Recipe, work: Path) -> str:
    """To the configuration of a checkpoint that has none. Returns what is to be known of it: one of the same sizes is
    there and learns on. Errors: InputError for one of other sizes."""
    path, start = work / "config.json", recipe.start.checkpoint
    raw = read_json(path)
    assert recipe.start.expert is not None
    sizes = dataclasses.asdict(recipe.start.expert)
    if raw.get("add_action_expert", True):
        there = raw.get("action_expert_config") or {}
        other = [f"{name} {there.get(name)}, not {size}" for name, size in sizes.items() if there.get(name) != size]
        if other:
            sizes_there = ", ".join(other)
            raise InputError(f"{start} has an action expert of other sizes ({sizes_there}); leave start.expert out")
        return f"{start} has an action expert of these sizes already; it learns on"
    layers = raw["text_config"]["num_hidden_layers"]
    raw |= {"add_action_expert": True, "action_mode": "both"}
    raw["action_expert_config"] = {**EXPERT, "num_layers": layers, **sizes}
    path.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    return ""


def _check_head(recipe: Recipe, config: ModelConfig) -> None:
    """That there are the attention heads that are to look at things: one for each of the first two cameras."""
    layer, head, text = recipe.objective.look_layer, recipe.objective.look_head, config.text
    last = head + min(len(recipe.cameras), 2) - 1
    if recipe.objective.look > 0 and (layer >= text.num_layers or last >= text.num_heads):
        raise InputError(
            f"objective.look_layer is {layer} and heads {head} to {last} are to look; the checkpoint has "
            f"{text.num_layers} layers of {text.num_heads} heads, counted from 0"
        )


def _check_cameras(recipe: Recipe, tag: TagStats) -> str:
    """Whoever runs the checkpoint gives it the norm tag's cameras in its order. A tag of the release may have other
    names for them than the data have, and is served with fewer (franka_droid: three and two): then only their number
    is told. Errors: InputError."""
    theirs, ours = [key.removeprefix(IMAGES) for key in tag.camera_keys], list(recipe.cameras)
    if not theirs or ours == theirs:
        return ""
    said = f"cameras are {', '.join(ours)}, norm tag {tag.tag!r} has {', '.join(theirs)}"
    if set(ours) <= set(theirs) or set(ours) > set(theirs):
        raise InputError(f"{said} in this order, and gets them so when it runs; name these, or make another norm tag")
    return said if len(ours) != len(theirs) else ""


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"{path} is missing; the recipe names it")
    return path
