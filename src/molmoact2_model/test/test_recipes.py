# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The recipes in config/recipes: each runs, from one command, on what the stage before it left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file
from test_training import BLUEPRINT, curves, recipe_of, train
from training_sets import TAG, norm_stats, toy_set

from molmoact2_contract.cli import main
from molmoact2_data.companions import FOLDER, QUESTIONS
from molmoact2_data.layout import CORRECTED, NOTES
from molmoact2_model import MolmoAct2Policy
from molmoact2_model.training.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "config/recipes"
SHORT = ("run.steps=2", "run.batch=2", "run.accumulate=1", "run.buffer=8", "run.every=1", "run.precision=fp32")


def settings(recipe: str, data: Path, start: Path, *more: str) -> list[str]:
    """What a user changes in a recipe, and fewer steps."""
    several = len(load_recipe(RECIPES / recipe).data)
    paths = [f"data.{index}.{key}" for index in range(several) for key in (f"path={data}", "units=''")]
    given = (f"start.checkpoint={start}", f"norm_tag={TAG}", *paths, "optimizer.warmup=0", *SHORT, *more)
    return [word for one in given for word in ("--set", one)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return toy_set(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(scope="module")
def start(tmp_path_factory, data) -> Path:
    """A checkpoint with depth and both kinds of actions."""
    folder = tmp_path_factory.mktemp("start")
    blueprint = BLUEPRINT | {"action_mode": "both", "num_action_tokens": 300}
    recipe = recipe_of(folder, data, start={"blueprint": blueprint, "norm_stats": str(norm_stats(folder))})
    assert train(recipe, folder / "out", "--until", "1") == 0
    return folder / "out/checkpoint"


def without_expert(checkpoint: Path, goal: Path) -> Path:
    shutil.copytree(checkpoint, goal)
    config = json.loads((goal / "config.json").read_text())
    config |= {"add_action_expert": False}
    del config["action_expert_config"]
    (goal / "config.json").write_text(json.dumps(config))
    tensors = load_file(goal / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "action_expert" not in name}
    assert len(kept) < len(tensors)
    save_file(kept, goal / "model.safetensors", {"format": "pt"})
    return goal


def test_every_recipe_is_known_to_this_test():
    assert {path.name for path in RECIPES.glob("*.yaml")} == {
        "specialize.yaml", "rehearse.yaml", "pretrain.yaml", "posttrain.yaml", "finetune.yaml", "think.yaml",
    }


@pytest.mark.parametrize("recipe", ["specialize.yaml", "rehearse.yaml", "think.yaml"])
def test_a_stage_with_depth_runs_and_leaves_a_checkpoint(tmp_path, data, start, recipe, capsys):
    assert main(["train", str(RECIPES / recipe), "--out", str(tmp_path / "out"), *settings(recipe, data, start)]) == 0
    assert "codes" in capsys.readouterr().out
    MolmoAct2Policy.from_pretrained(tmp_path / "out/checkpoint")


def test_the_first_recipe_of_the_shipped_checkpoint_steps_from_nothing(tmp_path, data):
    given = [f"data.{index}.path={data}" for index in range(2)]
    given += [f"start.norm_stats={norm_stats(tmp_path)}", f"norm_tag={TAG}", "optimizer.warmup=0"]
    given += ["run.steps=2", "run.batch=2", "run.buffer=8", "run.precision=fp32"]
    words = (word for one in given for word in ("--set", one))
    assert train(RECIPES / "so101_sim/posttrain.yaml", tmp_path / "out", *words) == 0
    losses = curves(tmp_path / "out")
    for name in ("flow", "place", "look"):
        assert np.isfinite(losses[name]).all() and min(losses[name]) > 0, f"{name}: {losses[name]}"
    assert MolmoAct2Policy.from_pretrained(tmp_path / "out/checkpoint").norm_tags == (TAG,)


def test_the_recipe_of_the_shipped_checkpoint_steps_with_every_term_of_its_objective(tmp_path, data, start):
    """so101_sim/settle.yaml with its own mix, objective and optimizer, on demonstrations and corrections."""
    corrected = Path(shutil.copytree(data, tmp_path / "corrected"))
    (corrected / NOTES).write_text(json.dumps({CORRECTED: 3}))
    recipe = RECIPES / "so101_sim/settle.yaml"
    paths = {"plain": data, "varied": data, "corrected": corrected, "corrected_again": corrected}
    given = [f"data.{index}.path={paths[one.path]}" for index, one in enumerate(load_recipe(recipe).data)]
    given += [f"start.checkpoint={start}", f"norm_tag={TAG}", "optimizer.warmup=2"]
    given += ["run.steps=8", "run.batch=4", "run.buffer=8", "run.precision=fp32"]    # bf16 is slow where it is toys
    assert train(recipe, tmp_path / "out", *(word for one in given for word in ("--set", one))) == 0
    losses = curves(tmp_path / "out")
    for name in ("flow", "text", "codes", "place", "look"):
        assert np.isfinite(losses[name]).all() and min(losses[name]) > 0, f"{name}: {losses[name]}"
    for name in ("place", "look"):    # of every batch, so that few steps tell
        assert np.mean(losses[name][-3:]) < 0.95 * np.mean(losses[name][:3]), f"{name}: {losses[name]}"


def test_low_rank_finetuning_learns_a_norm_tag_of_its_own(tmp_path, data, start):
    stats = json.loads(norm_stats(tmp_path).read_text())
    stats["metadata_by_tag"] = {"mine": stats["metadata_by_tag"][TAG]}
    (tmp_path / "mine.json").write_text(json.dumps(stats))
    changes = settings("finetune.yaml", data, start, "norm_tag=mine", f"start.norm_stats={tmp_path / 'mine.json'}")
    assert main(["train", str(RECIPES / "finetune.yaml"), "--out", str(tmp_path / "out"), *changes]) == 0
    assert MolmoAct2Policy.from_pretrained(tmp_path / "out/checkpoint").norm_tags == ("mine",)


def test_pretraining_speaks_actions_as_tokens_and_posttraining_attaches_an_expert(tmp_path, data, start, capsys):
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast"), "--horizon", "8"]) == 0
    bare = without_expert(start, tmp_path / "bare")
    changes = settings("pretrain.yaml", data, bare, f"start.fast_tokenizer={tmp_path / 'fast'}")
    assert main(["train", str(RECIPES / "pretrain.yaml"), "--out", str(tmp_path / "one"), *changes]) == 0
    assert "discrete" in capsys.readouterr().out
    assert MolmoAct2Policy.from_pretrained(tmp_path / "one/checkpoint").config.expert is None

    sizes = "start.expert={hidden_size: 32, num_heads: 2, timestep_embed_dim: 16}"
    changes = settings("posttrain.yaml", data, tmp_path / "one/checkpoint", sizes)
    assert main(["train", str(RECIPES / "posttrain.yaml"), "--out", str(tmp_path / "two"), *changes]) == 0
    assert "flow" in capsys.readouterr().out
    policy = MolmoAct2Policy.from_pretrained(tmp_path / "two/checkpoint")
    assert policy.config.expert is not None and policy.config.supports_discrete

    acting = tmp_path / "two/checkpoint"    # as where the stages before began with a checkpoint that acts
    assert main(["train", str(RECIPES / "posttrain.yaml"), "--out", str(tmp_path / "three"),
                 *settings("posttrain.yaml", data, acting, sizes)]) == 0    # fmt: skip
    assert "has an action expert of these sizes already; it learns on" in capsys.readouterr().err
    assert main(["train", str(RECIPES / "posttrain.yaml"), "--out", str(tmp_path / "four"),
                 *settings("posttrain.yaml", data, acting, sizes.replace("32", "64"))]) == 2    # fmt: skip
    assert "of other sizes (hidden_size 32, not 64); leave start.expert out" in capsys.readouterr().err


def test_questions_that_no_data_set_has_are_told_and_refused_where_every_frame_is_to_have_one(
    tmp_path, data, start, capsys
):
    silent = Path(shutil.copytree(data, tmp_path / "silent"))
    shutil.rmtree(silent / FOLDER / QUESTIONS)
    out = ("--out", str(tmp_path / "out"))
    assert main(["train", str(RECIPES / "rehearse.yaml"), *out, *settings("rehearse.yaml", silent, start)]) == 2
    assert "no questions (annotations/questions), so that mix.questions teaches nothing; set" in capsys.readouterr().err
    assert main(["train", str(RECIPES / "think.yaml"), *out,
                 *settings("think.yaml", silent, start, "mix.questions=0.5")]) == 0    # fmt: skip
    assert "so that mix.questions teaches nothing" in capsys.readouterr().err


def test_discrete_actions_are_not_taught_to_a_checkpoint_that_has_none(tmp_path, data, start, capsys):
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast"), "--horizon", "8"]) == 0
    flowing = Path(shutil.copytree(start, tmp_path / "flowing"))
    config = json.loads((flowing / "config.json").read_text())
    (flowing / "config.json").write_text(json.dumps(config | {"action_mode": "continuous"}))
    changes = settings("pretrain.yaml", data, flowing, f"start.fast_tokenizer={tmp_path / 'fast'}")
    assert main(["train", str(RECIPES / "pretrain.yaml"), "--out", str(tmp_path / "out"), *changes]) == 2
    assert "no discrete actions (config.json: action_mode is 'continuous')" in capsys.readouterr().err


def test_discrete_actions_are_not_taught_of_values_without_a_range(tmp_path, data, start, capsys):
    assert main(["fast", "train", str(data), "-o", str(tmp_path / "fast"), "--horizon", "8"]) == 0
    stats = json.loads((start / "norm_stats.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(stats | {"norm_mode": "none"}))
    given = f"start.fast_tokenizer={tmp_path / 'fast'}", f"start.norm_stats={tmp_path / 'other.json'}"
    changes = settings("pretrain.yaml", data, start, *given)
    assert main(["train", str(RECIPES / "pretrain.yaml"), "--out", str(tmp_path / "out"), *changes]) == 2
    assert "values with a range, and norm_mode is 'none'" in capsys.readouterr().err


def test_sizes_of_no_network_are_refused(tmp_path, data, capsys):
    start = {"blueprint": BLUEPRINT | {"vit_heads": 0}, "norm_stats": str(norm_stats(tmp_path))}
    recipe = recipe_of(tmp_path, data, start=start)
    assert train(recipe, tmp_path / "out") == 2
    assert "start.blueprint is of no network: ZeroDivisionError" in capsys.readouterr().err


def test_a_place_that_no_list_has_is_refused(tmp_path, data, start, capsys):
    changes = ["--set", "data.7.path=x"]
    assert main(["train", str(RECIPES / "think.yaml"), "--out", str(tmp_path / "out"), *changes]) == 2
    assert "data.7.path: 7 is none of the places 0 to 0" in capsys.readouterr().err


def test_the_recipes_are_yaml_with_a_licence():
    for path in RECIPES.rglob("*.yaml"):
        assert "Apache-2.0" in path.read_text() and isinstance(yaml.safe_load(path.read_text()), dict)
