# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: one stage of training as a YAML file, checked whole before anything is read or written.

    format: molmoact2_recipe.v1
    stage: think
    description: actions with depth reasoning, from demonstrations
    start: {blueprint: {...}} or {checkpoint: FOLDER or Hub id}
    norm_tag: so101_sim_molmoact2_tiny
    cameras: [front, wrist]
    data: [{path: FOLDER, weight: 1.0, episodes: [0, 900], units: ros}]
    robot: so101
    mix: {...}          samples.Mix
    augment: {...}      samples.Augment
    objective: {...}    network.Objective
    optimizer: {...}    Optimizer
    run: {...}          Run
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from .network import Objective
from .recipe_check import what_cannot_be
from .samples import Augment, Mix

FORMAT = "molmoact2_recipe.v1"


@dataclass(frozen=True)
class Expert:
    """Sizes of a new action expert, under the names that config.json has for them (blueprint.EXPERT is the rest)."""

    hidden_size: int
    num_heads: int
    timestep_embed_dim: int
    ffn_multiple_of: int = 16
    mlp_ratio: float = 8 / 3


@dataclass(frozen=True)
class Start:
    """What training begins from. checkpoint: a folder or Hub id in the released layout; blueprint: sizes of a new one
    (blueprint.Blueprint), with its own norm statistics. norm_stats: file that takes the place of the checkpoint's.
    expert: for a checkpoint without. fast_tokenizer: folder of the tokenizer that spells discrete actions (`molmoact2
    fast train`)."""

    checkpoint: str = ""
    blueprint: dict[str, Any] = field(default_factory=dict)
    norm_stats: str = ""
    expert: Expert | None = None
    fast_tokenizer: str = ""


@dataclass(frozen=True)
class Data:
    """A data set and how often it is drawn from. path: its folder, or one that `molmoact2 data filter` made. episodes:
    first and end, the end excluded; empty: all. units: of its numbers (molmoact2_data.embodiments.UNITS), to be
    converted to the norm tag's; empty: they are those already."""

    path: str = ""
    weight: float = 1.0
    episodes: tuple[int, ...] = ()
    units: str = ""

    @property
    def selection(self) -> range | None:
        """Of the episodes that are meant; None: all."""
        return range(*self.episodes) if self.episodes else None


@dataclass(frozen=True)
class Optimizer:
    """kind: adamw, or muon (of the matrices; AdamW of the rest; beta2 is its momentum). rate: peak learning rate;
    vision, language, expert: factors of it for the parts, 0 keeps a part as it is; final: the share of it at the end of
    the cosine; warmup: steps; clip: of the gradient's norm; ema: of the weights that are saved, 0: the weights
    themselves. trained: full, expert, or lora (of the language model, with rank and alpha; the expert is trained
    whole)."""

    kind: str = "adamw"
    rate: float = 1e-3
    vision: float = 1.0
    language: float = 1.0
    expert: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-6
    decay: float = 0.0
    warmup: int = 200
    final: float = 0.1
    clip: float = 1.0
    ema: float = 0.0
    trained: str = "full"
    rank: int = 64
    alpha: int = 16


@dataclass(frozen=True)
class Run:
    """steps: of the optimizer, each over `batch` frames, `accumulate` times. every: of an episode's frames one in so
    many, other ones each time unless `shift` is false (where only every so many frames are annotated). buffer: frames
    that wait to be drawn. precision: fp32 or bf16 (autocast); saved: that of the checkpoint, fp32 or bf16.
    save_every, sample_every: steps."""

    steps: int = 1000
    batch: int = 16
    accumulate: int = 1
    seed: int = 0
    every: int = 3
    shift: bool = True
    buffer: int = 2000
    precision: str = "fp32"
    saved: str = "fp32"
    save_every: int = 500
    sample_every: int = 500


@dataclass(frozen=True)
class Recipe:
    """One stage. Paths are relative to where the command is run, or absolute. robot: name of the contract whose units
    the data are in, where they are to be converted."""

    stage: str
    description: str
    start: Start
    norm_tag: str
    cameras: tuple[str, ...]
    data: tuple[Data, ...]
    robot: str = ""
    mix: Mix = field(default_factory=Mix)
    augment: Augment = field(default_factory=Augment)
    objective: Objective = field(default_factory=Objective)
    optimizer: Optimizer = field(default_factory=Optimizer)
    run: Run = field(default_factory=Run)


def load_recipe(path: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """Reads a recipe. changes: values by dotted name (e.g. run.steps) that take the place of the file's. Errors:
    InputError that names the key."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"recipe {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"recipe {path} holds no table of names and values")
    if content.pop("format", None) != FORMAT:
        raise InputError(f"recipe {path}: format is not {FORMAT!r}")
    for name, value in (changes or {}).items():
        _put(content, name, value)
    recipe = _parsed(Recipe, content, "", path)
    wrong = what_cannot_be(recipe)
    if wrong:
        raise InputError(f"recipe {path}: {wrong}")
    return recipe


def _put(content: dict[str, Any], name: str, value: Any) -> None:
    """name: data.0.path is the first data set's path."""
    *outer, last = name.split(".")
    inner: Any = content
    for key in outer:
        inner = inner[_index(name, key, inner)] if isinstance(inner, list) else inner.setdefault(key, {})
        if not isinstance(inner, (dict, list)):
            raise InputError(f"--set {name}: {key} is no table")
    inner[_index(name, last, inner) if isinstance(inner, list) else last] = value


def _index(name: str, key: str, values: list[Any]) -> int:
    if not key.isdigit() or int(key) >= len(values):
        raise InputError(f"--set {name}: {key} is none of the places 0 to {len(values) - 1}")
    return int(key)


def _parsed(kind: type, content: Any, where: str, path: Path) -> Any:
    if not isinstance(content, dict):
        raise InputError(f"recipe {path}: {where or 'it'} is {content!r}, expected a table")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise InputError(f"recipe {path}: there is no {_join(where, unknown[0])}; there are: {', '.join(fields)}")
    missing = [
        name for name, f in fields.items()
        if name not in content and f.default is f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"recipe {path}: {_join(where, missing[0])} is missing")
    return kind(**{key: _value(hints[key], value, _join(where, key), path) for key, value in content.items()})


def _value(hint: Any, value: Any, where: str, path: Path) -> Any:
    if isinstance(hint, types.UnionType):    # a table, or None for none
        (hint,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        if value is None:
            return None
    if dataclasses.is_dataclass(hint):
        return _parsed(typing.cast(type, hint), value, where, path)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise InputError(f"recipe {path}: {where} is {value!r}, expected a list")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, one, f"{where}[{index}]", path) for index, one in enumerate(value))
    plain = typing.get_origin(hint) or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    wrong = not isinstance(value, plain) or (plain is int and isinstance(value, bool))
    if wrong or (plain is float and not math.isfinite(value)):
        raise InputError(f"recipe {path}: {where} is {value!r}, expected {_named(plain)}")
    return value


def _named(kind: type) -> str:
    return {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}.get(kind, "a table")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)
