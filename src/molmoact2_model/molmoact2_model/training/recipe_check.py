# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe's values must be, each by itself; what depends on checkpoint or data is checked where they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .recipe import Recipe

TRAINED = ("full", "expert", "lora")
LOSSES = ("flow", "text", "codes", "discrete", "place", "look")
STYLES = ("action", "depth", "depth_action")
COUNTED = ("steps", "batch", "accumulate", "every", "buffer", "save_every", "sample_every")

MOST_SEED = 2**32 - 1    # with the step in it, it seeds generators of 64 bits


def what_cannot_be(recipe: Recipe) -> str:
    """The first value that cannot be, with what it must be; empty where there is none."""
    parts = (_start, _data, _samples, _losses, _targets, _optimizer, _run)
    return next((said for part in parts for said in part(recipe)), "")


def _start(recipe: Recipe) -> Iterator[str]:
    start = recipe.start
    if bool(start.checkpoint) == bool(start.blueprint):
        yield "start needs either checkpoint or blueprint"
    if start.blueprint and not start.norm_stats:
        yield "start.norm_stats is needed with a blueprint"
    if start.expert is not None:
        if start.blueprint:
            yield "start.expert is for a checkpoint without one; a blueprint has sizes of its own"
        yield from _least(start.expert, "start.expert", 1, "hidden_size", "num_heads", "ffn_multiple_of")
        yield from _least(start.expert, "start.expert", 2, "timestep_embed_dim")
        yield from _above(start.expert, "start.expert", "mlp_ratio")


def _data(recipe: Recipe) -> Iterator[str]:
    if not recipe.data:
        yield "data names no data set"
    if not recipe.cameras:
        yield "cameras names none"
    if len(set(recipe.cameras)) < len(recipe.cameras):
        yield f"cameras are {', '.join(recipe.cameras)}; each may be named once"
    if any(data.units and not recipe.robot for data in recipe.data):
        yield "data.units needs robot, e.g. so101"
    for index, data in enumerate(recipe.data):
        yield from _above(data, f"data[{index}]", "weight")
        if data.episodes and (len(data.episodes) != 2 or not 0 <= data.episodes[0] < data.episodes[1]):
            yield f"data[{index}].episodes is {list(data.episodes)}, expected [first, end], the first below the end"


def _samples(recipe: Recipe) -> Iterator[str]:
    mix, augment = recipe.mix, recipe.augment
    if min(mix.action, mix.depth, mix.depth_action) < 0 or mix.action + mix.depth + mix.depth_action == 0:
        yield f"mix: {', '.join(STYLES)} are shares, one of them above 0"
    yield from _least(mix, "mix", 1, "instructions")
    yield from _share(mix, "mix", "questions", "code_noise")
    yield from _share(augment, "augment", "lost")
    yield from _least(augment, "augment", 0, "brightness", "contrast", "state_noise")


def _losses(recipe: Recipe) -> Iterator[str]:
    objective = recipe.objective
    yield from _least(objective, "objective", 0, *LOSSES, "z_loss", "spread", "look_layer", "look_head")
    yield from _least(objective, "objective", 1, "flow_draws")
    if not any(getattr(objective, name) for name in LOSSES):
        yield f"objective: {', '.join(LOSSES)} are weights, one of them above 0"


def _targets(recipe: Recipe) -> Iterator[str]:
    """That what the mix asks for has a weight, and what has a weight is asked for."""
    mix, objective = recipe.mix, recipe.objective
    if mix.places and objective.place == objective.look == 0:
        yield "mix.places asks where things are, and objective.place and objective.look are 0; set one of them above 0"
    if objective.look > 0 and not mix.places:
        yield f"objective.look is {objective.look}, and nothing says where to look; set mix.places to true, or it to 0"
    besides = mix.places or (mix.questions > 0 and objective.text > 0)
    actions = objective.flow > 0 or (mix.discrete and objective.discrete > 0)
    codes = objective.codes > 0
    for style, taught in zip(STYLES, (actions, codes, actions or codes), strict=True):
        if getattr(mix, style) > 0 and not (taught or besides):
            yield f"mix.{style} is {getattr(mix, style)}, and objective has weight 0 for all that it asks for"


def _optimizer(recipe: Recipe) -> Iterator[str]:
    options = recipe.optimizer
    if options.trained not in TRAINED:
        yield f"optimizer.trained is one of {', '.join(TRAINED)}"
    if options.kind not in ("adamw", "muon"):
        yield "optimizer.kind is adamw or muon"
    yield from _above(options, "optimizer", "rate", "epsilon", "clip")
    yield from _least(options, "optimizer", 0, "vision", "language", "expert", "decay", "warmup")
    yield from _least(options, "optimizer", 1, "rank", "alpha")
    yield from _share(options, "optimizer", "final")
    for name in ("beta1", "beta2", "ema"):
        if not 0 <= getattr(options, name) < 1:
            yield f"optimizer.{name} is {getattr(options, name)}; it must be at least 0 and below 1"


def _run(recipe: Recipe) -> Iterator[str]:
    run = recipe.run
    yield from _least(run, "run", 1, *COUNTED)
    yield from _least(run, "run", 0, "seed")
    if run.seed > MOST_SEED:
        yield f"run.seed is {run.seed}; it must be at most {MOST_SEED}"
    for name in ("precision", "saved"):
        if getattr(run, name) not in ("fp32", "bf16"):
            yield f"run.{name} is fp32 or bf16"


def _least(part: Any, where: str, least: int, *names: str) -> Iterator[str]:
    yield from (
        f"{where}.{name} is {getattr(part, name)}; it must be at least {least}"
        for name in names if getattr(part, name) < least
    )


def _above(part: Any, where: str, *names: str) -> Iterator[str]:
    yield from (
        f"{where}.{name} is {getattr(part, name)}; it must be above 0" for name in names if getattr(part, name) <= 0
    )


def _share(part: Any, where: str, *names: str) -> Iterator[str]:
    yield from (
        f"{where}.{name} is {getattr(part, name)}; it is a share, from 0 to 1"
        for name in names if not 0 <= getattr(part, name) <= 1
    )
