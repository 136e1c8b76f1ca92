# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A value that cannot be is refused by its name before anything is read."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from molmoact2_model import InputError
from molmoact2_model.training.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "config/recipes"
ALL = sorted(RECIPES.rglob("*.yaml"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_loads(path):
    recipe = load_recipe(path)
    assert recipe.stage and recipe.description and recipe.data


def test_all_recipes_say_the_same_of_the_same_data():
    said = {}
    for path in ALL:
        recipe = load_recipe(path)
        for data in recipe.data:
            if path.parent == RECIPES:
                said.setdefault(data.path, set()).add((data.units, recipe.robot, recipe.cameras))
    assert set(said) == {"data/mine", "data/before"}
    assert {path: len(units) for path, units in said.items()} == {"data/mine": 1, "data/before": 1}
    assert said["data/mine"] == said["data/before"] == {("lerobot", "so101", ("front", "wrist"))}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("objective.flow_draws", 0, "objective.flow_draws is 0; it must be at least 1"),
        ("objective.look_layer", -1, "objective.look_layer is -1; it must be at least 0"),
        ("objective.text", -0.5, "objective.text is -0.5; it must be at least 0"),
        ("objective.z_loss", -1e-4, "objective.z_loss is -0.0001; it must be at least 0"),
        ("objective.spread", -1.0, "objective.spread is -1.0; it must be at least 0"),
        ("objective", {"flow": 0, "text": 0, "codes": 0, "discrete": 0}, "are weights, one of them above 0"),
        ("mix.places", True, "mix.places asks where things are, and objective.place and objective.look are 0"),
        ("objective.look", 0.5, "objective.look is 0.5, and nothing says where to look; set mix.places to true"),
        ("mix.code_noise", 1.5, "mix.code_noise is 1.5; it is a share, from 0 to 1"),
        ("mix.questions", -0.1, "mix.questions is -0.1; it is a share, from 0 to 1"),
        ("mix.depth", -1.0, "are shares, one of them above 0"),
        ("mix.instructions", 0, "mix.instructions is 0; it must be at least 1"),
        ("augment.lost", 2, "augment.lost is 2.0; it is a share, from 0 to 1"),
        ("augment.brightness", -0.1, "augment.brightness is -0.1; it must be at least 0"),
        ("augment.state_noise", -0.1, "augment.state_noise is -0.1; it must be at least 0"),
        ("optimizer.beta1", 1.0, "optimizer.beta1 is 1.0; it must be at least 0 and below 1"),
        ("optimizer.beta2", -0.1, "optimizer.beta2 is -0.1; it must be at least 0 and below 1"),
        ("optimizer.ema", 1.0, "optimizer.ema is 1.0; it must be at least 0 and below 1"),
        ("optimizer.rank", 0, "optimizer.rank is 0; it must be at least 1"),
        ("optimizer.vision", -1.0, "optimizer.vision is -1.0; it must be at least 0"),
        ("optimizer.clip", 0.0, "optimizer.clip is 0.0; it must be above 0"),
        ("optimizer.epsilon", 0.0, "optimizer.epsilon is 0.0; it must be above 0"),
        ("optimizer.rate", -1e-4, "optimizer.rate is -0.0001; it must be above 0"),
        ("optimizer.warmup", -1, "optimizer.warmup is -1; it must be at least 0"),
        ("optimizer.final", 1.1, "optimizer.final is 1.1; it is a share, from 0 to 1"),
        ("run.seed", -1, "run.seed is -1; it must be at least 0"),
        ("run.seed", 99999999999999999999, "run.seed is 99999999999999999999; it must be at most 4294967295"),
        ("cameras", ["front", "front"], "cameras are front, front; each may be named once"),
        ("run.buffer", 0, "run.buffer is 0; it must be at least 1"),
        ("data.0.weight", 0, "data[0].weight is 0.0; it must be above 0"),
        ("data.0.episodes", [7, 3], "data[0].episodes is [7, 3], expected [first, end]"),
        ("start.expert.hiden_size", 32, "there is no start.expert.hiden_size; there are: hidden_size"),
        ("start.expert.hidden_size", 0, "start.expert.hidden_size is 0; it must be at least 1"),
        ("start.expert", {"hidden_size": 32}, "start.expert.num_heads is missing"),
        ("start.expert", 7, "start.expert is 7, expected a table"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(name, value, said):
    with pytest.raises(InputError, match=re.escape(said)):
        load_recipe(RECIPES / "posttrain.yaml", {name: value})


@pytest.mark.parametrize(
    ("mix", "objective", "wrong"),
    [
        ({"action": 1}, {"flow": 0}, "mix.action is 1.0"),
        ({"action": 1, "questions": 0.5}, {"flow": 0, "text": 0}, "mix.action is 1.0"),
        ({"action": 1, "discrete": True}, {"flow": 0, "discrete": 0}, "mix.action is 1.0"),
        ({"action": 1, "depth": 2}, {"codes": 0}, "mix.depth is 2.0"),
        ({"action": 0, "depth_action": 1}, {"flow": 0, "codes": 0}, "mix.depth_action is 1.0"),
        ({"action": 1, "questions": 0.5}, {"flow": 0}, ""),
        ({"action": 1, "discrete": True}, {"flow": 0}, ""),
        ({"action": 0, "depth_action": 1}, {"flow": 0}, ""),
        ({"action": 1, "places": True}, {"flow": 0, "look": 1}, ""),
    ],
)
def test_a_mix_whose_targets_have_no_weight_is_refused(mix, objective, wrong):
    said = pytest.raises(InputError, match=f"{wrong}, and objective has weight 0 for all that it asks for")
    with said if wrong else nullcontext():
        load_recipe(RECIPES / "posttrain.yaml", {"mix": mix, "objective": objective})


def test_a_new_expert_may_be_left_out():
    assert load_recipe(RECIPES / "posttrain.yaml", {"start.expert": None}).start.expert is None


def test_a_blueprint_has_no_expert_beside_it():
    recipe = RECIPES / "so101_sim/posttrain.yaml"
    expert = yaml.safe_load((RECIPES / "posttrain.yaml").read_text())["start"]["expert"]
    with pytest.raises(InputError, match="start.expert is for a checkpoint without one"):
        load_recipe(recipe, {"start.expert": expert})
