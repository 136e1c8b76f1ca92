# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 train`: recipes that run, go on where they were, and end in checkpoints that act."""

import itertools
import json
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from golden_set import GOLDEN
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_sets import HORIZON, METRES, TAG, described, fast_of, norm_stats, toy_set

from molmoact2_contract.cli import main
from molmoact2_data.reader import Dataset
from molmoact2_data.writer import DatasetWriter, Row
from molmoact2_model import MolmoAct2Policy
from molmoact2_model.depth import checkpoint_decoder
from molmoact2_model.training.loop import Trainer
from molmoact2_model.training.saving import alone

BLUEPRINT = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "intermediate_size": 64, "vit_layers": 2,
    "image_size": [56, 56], "max_action_dim": 4, "max_action_horizon": HORIZON, "num_depth_codes": 4,
    "num_depth_tokens": 8, "num_action_tokens": 16, "num_state_tokens": 32, "action_mode": "continuous",
    "vocab_multiple": 32,
}  # fmt: skip


def recipe_of(folder: Path, path: Path, **changes) -> Path:
    """A recipe file that trains on the data set at `path`."""
    content = {
        "format": "molmoact2_recipe.v1",
        "stage": "toy",
        "description": "a toy",
        "start": {"blueprint": BLUEPRINT, "norm_stats": str(norm_stats(folder))},
        "norm_tag": TAG,
        "cameras": ["front", "wrist"],
        "data": [{"path": str(path)}],
        "mix": {"action": 1.0, "depth_action": 1.0, "instructions": 2, "questions": 0.5, "places": True},
        "objective": {"place": 1.0, "look": 0.5, "flow_draws": 2, "look_layer": 0},
        "optimizer": {"rate": 3e-3, "warmup": 5, "ema": 0.8},
        "run": {"steps": 8, "batch": 6, "every": 1, "buffer": 20, "save_every": 100},
    } | changes
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content))
    return recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return toy_set(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture
def recipe(tmp_path, data) -> Path:
    return recipe_of(tmp_path, data)


def train(recipe: Path, out: Path, *more: str, pictures: bool = False) -> int:
    """pictures: draws what the model does as well, which takes longer than a few steps."""
    with nullcontext() if pictures else patch.object(Trainer, "_pictures", lambda _: None):
        return main(["train", str(recipe), "--out", str(out), *more])


def curves(out: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    blueprint = BLUEPRINT | {"action_mode": "both", "num_action_tokens": 96}
    start = {"blueprint": blueprint, "norm_stats": str(norm_stats(folder))}
    start |= {"fast_tokenizer": str(fast_of(data, folder / "fast"))}
    mix = {"action": 1.0, "depth_action": 1.0, "instructions": 2, "questions": 0.5, "places": True, "discrete": True}
    recipe = recipe_of(folder, data, start=start, mix=mix)
    assert train(recipe, folder / "out", "--set", "run.steps=130", pictures=True) == 0
    return folder / "out"


def test_a_short_run_lowers_each_loss(trained):
    losses = curves(trained)
    for name in ("flow", "text", "codes", "discrete", "place", "look"):
        first, last = np.mean(losses[name][:10]), np.mean(losses[name][-10:])
        assert last < 0.8 * first, f"{name}: {first:.3f} -> {last:.3f}"


def test_a_batch_asks_for_one_style_so_that_short_sequences_do_not_wait_for_long_ones(recipe, tmp_path):
    from molmoact2_model.training.batch import CODES, IGNORED
    from molmoact2_model.training.beginning import begin
    from molmoact2_model.training.loop import Trainer, open_processes
    from molmoact2_model.training.recipe import load_recipe

    loaded = load_recipe(recipe)
    trainer = Trainer(loaded, begin(loaded, tmp_path / "files"), tmp_path / "out", open_processes("cpu"))
    seen = set()
    for batch in itertools.islice(trainer._batches(iter(trainer._stream())), 12):
        acting = batch.action_is_real.any(1)
        coded = ((batch.targets != IGNORED) & (batch.kinds == CODES)).any(1)[acting]
        assert coded.all() or not coded.any()
        assert not coded.any() or int(acting.sum()) == loaded.run.batch    # one sequence for each frame
        seen.add(bool(coded.any()))
    assert seen == {True, False}


def misses(data: Path, checkpoint: Path, depth: str) -> float:
    """How far chunks are from a place of a square: every target is at 0.5 or -0.5 in both joints, never between."""
    session = MolmoAct2Policy.from_pretrained(checkpoint).session(norm_tag=TAG, depth=depth)
    dataset, found = Dataset(data), []
    for episode in dataset.episodes[:4]:
        sample = next(dataset.samples(episode))
        chunk = session.infer(list(sample.images.values()), sample.state, episode.task, seed=1).actions
        found.append(np.abs(np.abs(chunk) - 0.5).mean())
    return float(np.mean(found))


def test_what_was_trained_acts_more_like_the_demonstrations_than_what_was_not(recipe, trained, data, tmp_path):
    assert train(recipe, tmp_path / "out", "--set", "run.steps=1") == 0
    untrained = misses(data, tmp_path / "out/checkpoint", "off")    # untrained codes have no end
    off = {depth: misses(data, trained / "checkpoint", depth) for depth in ("off", "full")}
    assert max(off.values()) < 0.5 * untrained, (off, untrained)


# --- released checkpoints ---------------------------------------------------------------------------------------------
def golden_data(root: Path) -> Path:
    """A data set for the tag tiny_arm: 7 joints, one camera."""
    random = np.random.default_rng(0)
    with DatasetWriter(root, 30, [f"j{i}" for i in range(7)], {"front": (60, 80)}, "tiny", {}) as writer:
        for _ in range(2):
            writer.begin("go there", 6, {})
            for _ in range(6):
                values = random.uniform(-0.5, 0.5, 7).astype(np.float32)
                writer.add(Row(values, values, {"front": random.integers(0, 255, (60, 80, 3), dtype=np.uint8)}))
            writer.end()
    return root


@pytest.mark.parametrize("trained", ["full", "expert"])
def test_a_released_checkpoint_that_is_fine_tuned_keeps_its_layout(tmp_path, trained):
    start = GOLDEN / "checkpoint"
    recipe = recipe_of(
        tmp_path, golden_data(tmp_path / "data"), start={"checkpoint": str(start)}, norm_tag="tiny_arm",
        cameras=["front"], mix={"action": 1.0}, objective={}, optimizer={"rate": 1e-3, "warmup": 1, "trained": trained},
        run={"steps": 2, "batch": 2, "every": 1, "buffer": 4},
    )    # fmt: skip
    assert train(recipe, tmp_path / "out") == 0
    saved = tmp_path / "out/checkpoint"
    files = {path.name for path in start.iterdir()}
    assert {path.name for path in saved.iterdir()} == files | {"README.md"}
    for file in files - {"model.safetensors"}:
        assert (saved / file).read_bytes() == (start / file).read_bytes()
    before, after = load_file(start / "model.safetensors"), load_file(saved / "model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    rest = {"transformer", "vision_backbone"}
    assert changed - {"lm_head"} == {"action_expert"} | (rest if trained == "full" else set())
    policy = MolmoAct2Policy.from_pretrained(saved)
    image = np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    chunk = policy.session(norm_tag="tiny_arm").infer([image], np.zeros(7, np.float32), "go there", seed=0)
    assert np.isfinite(chunk.actions).all()


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": {"step": 3}}, "there is no run.step; there are: steps"),
        ({"run": {"steps": "many"}}, "run.steps is 'many', expected a whole number"),
        ({"run": {"steps": 0}}, "must be at least 1"),
        ({"optimizer": {"rate": float("inf")}}, "expected a finite number"),
        ({"optimizer": {"trained": "some"}}, "full, expert, lora"),
        ({"optimizer": {"vision": 0.0, "language": 0.0, "expert": 0.0}}, "trains nothing"),
        ({"mix": {"action": 0.0}}, "one of them above 0"),
        ({"mix": {"action": 1.0, "discrete": True, "places": True}}, "need a FAST tokenizer"),
        ({"start": {"checkpoint": "x", "blueprint": {"hidden_size": 8}}}, "either checkpoint or blueprint"),
        ({"start": {"blueprint": {"depth": 3}, "norm_stats": "norm_stats.json"}}, "start.blueprint has no 'depth'"),
        ({"start": {"blueprint": BLUEPRINT, "norm_stats": "none.json"}}, "none.json is missing"),
        ({"norm_tag": "other"}, "norm_tag 'other' is not in this checkpoint"),
        ({"cameras": ["front", "side"]}, "has no camera 'side'"),
        ({"data": [{"path": "/nowhere"}]}, "/nowhere is no LeRobot dataset"),
        ({"cameras": ["front"]}, "cameras are front, norm tag 'toy' has front, wrist in this order"),
        ({"cameras": ["wrist", "front"], "mix": {}, "objective": {}}, "cameras are wrist, front, norm tag 'toy' has"),
        ({"run": {"batch": 49, "every": 1}}, "run.batch is 49; the data have 48 frames (one in run.every 1)"),
        ({"run": {"batch": 25, "every": 3}}, "run.batch is 25; the data have 24 frames"),
        ({"format": "v0"}, "format is not 'molmoact2_recipe.v1'"),
    ],
)
def test_a_wrong_recipe_is_refused_and_no_run_begins(tmp_path, data, capsys, change, said):
    recipe = recipe_of(tmp_path, data, **change)
    assert train(recipe, tmp_path / "out", "--set", "optimizer.warmup=5") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out/checkpoint").exists() and not (tmp_path / "out/state.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "run.steps=["], "--set run.steps=[: '[' is no value in YAML"),
        (["--threads", "-2"], "--threads is -2, expected 0"),
        (["--until", "0"], "--until is 0, expected a step, at least 1"),
        (["--until", "-3"], "--until is -3, expected a step, at least 1"),
        (["--out", "{file}"], "file cannot be made or written to (File exists)"),
        (["--out", "{file}/x"], "file/x cannot be made or written to (Not a directory)"),
        (["--set", "start.norm_stats={file}"], "file is not valid JSON"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(recipe, tmp_path, capsys, given, said):
    file = tmp_path / "file"
    file.write_text("no JSON")
    assert train(recipe, tmp_path / "out", *(word.replace("{file}", str(file)) for word in given)) == 2
    assert said in capsys.readouterr().err


def small_set(root: Path, names: list[str]) -> Path:
    with DatasetWriter(root, 10, names, {"front": (56, 56), "wrist": (56, 56)}, "toy", {}) as writer:
        writer.begin("go there", 6, {})
        for _ in range(6):
            image, values = np.zeros((56, 56, 3), np.uint8), np.zeros(len(names))
            writer.add(Row(values, values, {"front": image, "wrist": image}))
        writer.end()
    return root


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "data has 1 values in observation.state, norm tag 'toy' has 2"),    # numpy would spread it over both
        (["a", "b", "c"], "data has 3 values in observation.state, norm tag 'toy' has 2"),
        (["b", "a"], "data has the values of observation.state in the order b, a, norm tag 'toy' in the order a, b"),
    ],
)
def test_values_that_are_not_the_norm_tags_are_refused(tmp_path, capsys, names, said):
    recipe = recipe_of(tmp_path, small_set(tmp_path / "data", names), mix={"action": 1.0}, objective={})
    content = json.loads((tmp_path / "norm_stats.json").read_text())
    entry = content["metadata_by_tag"][TAG]
    for figures in ("state_stats", "action_stats"):
        entry[figures] = entry[figures] | {"names": ["a.pos", "b.pos"]}
    (tmp_path / "norm_stats.json").write_text(json.dumps(content))
    assert train(recipe, tmp_path / "out") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out/checkpoint").exists()


def test_data_without_depth_codes_is_named_where_the_recipe_wants_only_those(tmp_path, capsys):
    bare = golden_data(tmp_path / "bare")
    recipe = recipe_of(
        tmp_path, bare, start={"checkpoint": str(GOLDEN / "checkpoint")}, norm_tag="tiny_arm", cameras=["front"],
        mix={"action": 0.0, "depth_action": 1.0}, objective={},
    )  # fmt: skip
    assert train(recipe, tmp_path / "out") == 2
    assert "has no depth codes; run molmoact2 depth annotate" in capsys.readouterr().err


def test_what_the_data_mean_by_their_depth_codes_goes_with_the_checkpoint(tmp_path, capsys):
    recipe = recipe_of(tmp_path, toy_set(tmp_path / "coded"), run={"steps": 1, "batch": 2, "buffer": 4})
    assert train(recipe, tmp_path / "out") == 0
    shown = checkpoint_decoder(tmp_path / "out/checkpoint").decode(np.arange(4)[None])
    assert shown.unit == "m"
    np.testing.assert_allclose(shown.values, [METRES[:4]], rtol=1e-6)

    other = described(toy_set(tmp_path / "other"), [2 * value for value in METRES])
    start = {"checkpoint": str(tmp_path / "out/checkpoint")}
    recipe = recipe_of(tmp_path, other, start=start, run={"steps": 1, "batch": 2, "buffer": 4})
    assert train(recipe, tmp_path / "more") == 2
    assert "by another codebook than the checkpoint's" in capsys.readouterr().err


def test_a_run_is_not_begun_over_another_nor_gone_on_with_where_there_is_none(recipe, tmp_path, capsys):
    assert train(recipe, tmp_path / "out", "--resume") == 2
    assert "holds no run to go on with" in capsys.readouterr().err
    assert train(recipe, tmp_path / "out", "--set", "run.steps=1") == 0
    assert train(recipe, tmp_path / "out") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert train(recipe, tmp_path / "out", "--resume", "--set", "optimizer.trained=expert") == 2
    assert "is of another recipe: optimizer.trained is 'expert', was 'full'" in capsys.readouterr().err
    other = ("--resume", "--set", "optimizer.trained=expert", "--accept-changes")
    assert train(recipe, tmp_path / "out", *other) == 2
    assert "it has other weights; begin again with another --out" in capsys.readouterr().err


def test_a_damaged_state_is_refused(recipe, tmp_path, capsys):
    assert train(recipe, tmp_path / "out", "--set", "run.steps=1") == 0
    state = tmp_path / "out/state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    assert train(recipe, tmp_path / "out", "--resume") == 2
    assert "cannot be continued from" in capsys.readouterr().err


def test_a_card_says_what_the_checkpoint_is(trained):
    card = (trained / "checkpoint/README.md").read_text()
    assert card.startswith("# toy\n\na toy\n\nStep 130 of 130, 6 frames each.")
    assert json.loads((trained / "checkpoint/config.json").read_text())["num_depth_codes"] == 4
    with safe_open(trained / "state.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == "130"
    assert (trained / "samples/step_000130.png").is_file()


def test_two_runs_do_not_write_to_one_folder(recipe, tmp_path, capsys):
    with alone(tmp_path / "out"):    # as another process's run
        assert train(recipe, tmp_path / "out", "--set", "run.steps=1") == 2
        assert "another run writes to" in capsys.readouterr().err
    assert train(recipe, tmp_path / "out", "--set", "run.steps=1") == 0
