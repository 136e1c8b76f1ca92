# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What a run that was cut has kept, and what it goes on with."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_training import BLUEPRINT, recipe_of, train
from training_sets import METRES, fast_of, norm_stats, toy_set
from training_sets import described as described_codes

from molmoact2_model import InputError
from molmoact2_model.training.beginning import begin
from molmoact2_model.training.network import TrainingModel
from molmoact2_model.training.recipe import Data, load_recipe
from molmoact2_model.training.resuming import check_same_run, described
from molmoact2_model.training.saving import whole_folder
from molmoact2_model.training.stopping import Stop

RUN = {"steps": 6, "batch": 2, "every": 1, "buffer": 8, "save_every": 2}
OPTIMIZER = {"kind": "muon", "rate": 3e-3, "warmup": 1, "ema": 0.8}
KEPT = ("state.safetensors", "checkpoint/model.safetensors")
FILES = {"norm statistics": "1", "depth codebook": "2", "FAST tokenizer": "", "start weights": "3"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return toy_set(tmp_path_factory.mktemp("data") / "toy", episodes=4)


@pytest.fixture
def recipe(tmp_path, data) -> Path:
    return recipe_of(tmp_path, data, optimizer=OPTIMIZER, run=RUN)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data) -> Path:
    """A run of `recipe` that nothing ever cut."""
    folder = tmp_path_factory.mktemp("whole")
    assert train(recipe_of(folder, data, optimizer=OPTIMIZER, run=RUN), folder / "out") == 0
    return folder / "out"


@pytest.fixture
def heeded():
    """Ctrl-C as at a terminal: whoever runs tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def step_of(out: Path) -> int:
    with safe_open(out / KEPT[0], framework="pt") as file:
        return int(file.metadata()["step"])


def differ(one: Path, two: Path) -> list[str]:
    found = []
    for name in KEPT:
        first, second = load_file(one / name), load_file(two / name)
        assert first.keys() == second.keys()
        found += [key for key in first if not torch.equal(first[key], second[key])]
    return found


def pressed_at(monkeypatch, number: int, times: int = 1) -> None:
    """Ctrl-C in the middle of a step: when AdamW has moved its weights and Muon has not."""
    step, calls = torch.optim.Muon.step, []

    def interrupted(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == number:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Muon, "step", interrupted)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------
def test_a_run_that_ctrl_c_cut_within_a_step_is_resumed_to_what_it_would_have_been_bit_for_bit(
    recipe, whole, tmp_path, capsys, monkeypatch, heeded
):
    with monkeypatch.context() as patch:
        pressed_at(patch, 3)
        assert train(recipe, tmp_path / "parts") == 130
    assert "interrupted at step 3, saved is step 3; go on with --resume" in capsys.readouterr().err
    assert step_of(tmp_path / "parts") == 3
    assert "Step 3 of 6" in (tmp_path / "parts/checkpoint/README.md").read_text()
    assert train(recipe, tmp_path / "parts", "--resume") == 0
    assert differ(tmp_path / "parts", whole) == []


def test_a_second_ctrl_c_ends_the_run_at_once_and_leaves_what_was_saved_last(
    recipe, whole, tmp_path, capsys, monkeypatch, heeded
):
    with monkeypatch.context() as patch:
        pressed_at(patch, 4, times=2)
        assert train(recipe, tmp_path / "parts") == 130
    assert "at step 3, saved is step 2; go on with --resume" in capsys.readouterr().err
    assert step_of(tmp_path / "parts") == 2
    assert train(recipe, tmp_path / "parts", "--resume") == 0
    assert differ(tmp_path / "parts", whole) == []


def test_ctrl_c_before_there_is_anything_to_save_says_so(recipe, tmp_path, capsys, monkeypatch, heeded):
    with monkeypatch.context() as patch:
        pressed_at(patch, 1)
        assert train(recipe, tmp_path / "out") == 130
    assert "nothing was saved" in capsys.readouterr().err

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("molmoact2_model.training.beginning.begin", interrupted)
    assert train(recipe, tmp_path / "out") == 130
    said = capsys.readouterr().err
    assert "nothing was saved" in said and "--resume" not in said
    assert not (tmp_path / "out/state.safetensors").exists()


def test_a_run_whose_shell_had_it_ignore_ctrl_c_goes_on_ignoring_it(heeded):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stop() as stop:
        stop.step_done()
        signal.raise_signal(signal.SIGINT)
        assert not stop.asked
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_sigterm_asks_for_an_end_between_steps_and_never_breaks_a_step_off(heeded):
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        stop.step_done()
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(KeyboardInterrupt), Stop():    # nothing is there to save yet
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


# --- steps that cannot be taken ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_one_that_is_not_finite_stops_the_run_by_the_name_of_the_step_and_what_was_saved_stands(
    recipe, whole, tmp_path, capsys, monkeypatch, what
):
    forward, calls = TrainingModel.forward, []

    def broken(self, *args):
        losses, weight = forward(self, *args), next(self.parameters()).flatten()[0]
        calls.append(self)
        if len(calls) < 4:
            return losses
        # The root of zero is zero, and its slope is infinite.
        added = weight * torch.nan if what == "loss" else (0 * weight).sqrt()
        return dataclasses.replace(losses, total=losses.total + added)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModel, "forward", broken)
        assert train(recipe, tmp_path / "parts") == 2
    said = capsys.readouterr().err
    assert f"the {what}" in said and "not finite" in said and "step 3" in said and "lower optimizer.rate" in said
    assert step_of(tmp_path / "parts") == 2
    assert train(recipe, tmp_path / "parts", "--resume") == 0
    assert differ(tmp_path / "parts", whole) == []


# --- checkpoints that are not the state's -----------------------------------------------------------------------------
def test_a_state_whose_checkpoint_is_missing_or_older_gets_its_own_again(recipe, whole, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(recipe, out, "--until", "3") == 0
    shutil.copytree(out / "checkpoint", tmp_path / "older")
    assert train(recipe, out, "--resume") == 0
    assert "had its steps" not in capsys.readouterr().err
    shutil.rmtree(out / "checkpoint")
    (out / ".checkpoint.killed.partial").mkdir()
    (out / ".checkpoint.killed.partial/model.safetensors").write_bytes(b"half")
    assert train(recipe, out, "--resume") == 0
    assert not list(out.glob(".checkpoint.*"))
    assert "had its steps, 6 of 6; a higher run.steps goes on" in capsys.readouterr().err
    assert differ(out, whole) == []
    shutil.rmtree(out / "checkpoint")
    shutil.copytree(tmp_path / "older", out / "checkpoint")
    assert train(recipe, out, "--resume") == 0
    assert differ(out, whole) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_folder_that_is_replaced_is_never_missing_whenever_it_is_cut(tmp_path, monkeypatch, number):
    goal, rename, calls = tmp_path / "goal", Path.rename, []
    goal.mkdir()
    (goal / "what").write_text("old")

    def cut(self, target):
        calls.append(target)
        if len(calls) == number + 1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(KeyboardInterrupt), whole_folder(goal) as folder:
        (folder / "what").write_text("new")
    assert (goal / "what").read_text() == "old"
    assert list(tmp_path.iterdir()) == [goal]


def test_curves_show_each_step_once_however_often_the_run_was_cut(recipe, tmp_path):
    out = tmp_path / "out"
    assert train(recipe, out, "--until", "2") == 0
    shutil.copy(out / "state.safetensors", tmp_path / "kept")
    assert train(recipe, out, "--resume", "--until", "4") == 0
    shutil.copy(tmp_path / "kept", out / "state.safetensors")    # as if killed before it was saved again
    assert train(recipe, out, "--resume") == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("gradient")] == [1, 2, 3, 4, 5, 6]


# --- another recipe ---------------------------------------------------------------------------------------------------
def changed(recipe, name: str, value):
    section, _, key = name.partition(".")
    inner = dataclasses.replace(getattr(recipe, section), **{key: value}) if key else value
    return dataclasses.replace(recipe, **{section: inner})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("run.seed", 1, "run.seed is 1, was 0"),
        ("run.batch", 4, "run.batch is 4, was 2"),
        ("run.buffer", 9, "run.buffer is 9, was 8"),
        ("optimizer.kind", "adamw", "optimizer.kind is 'adamw', was 'muon'"),
        ("optimizer.ema", 0.0, "optimizer.ema is 0.0, was 0.8"),
        ("mix.questions", 0.25, "mix.questions is 0.25, was 0.5"),
        ("norm_tag", "other", "norm_tag is 'other', was 'toy'"),
        ("start.checkpoint", "elsewhere", "start.checkpoint is 'elsewhere', was ''"),
    ],
)
def test_a_run_goes_on_with_no_other_recipe_unless_told_to(recipe, name, value, said):
    before = load_recipe(recipe)
    kept, now = described(before, 1, FILES), changed(before, name, value)
    with pytest.raises(InputError) as refusal:
        check_same_run(Path("state"), kept, now, 1, FILES, False)
    assert said in str(refusal.value) and "--accept-changes" in str(refusal.value)
    assert check_same_run(Path("state"), kept, now, 1, FILES, True) == [f"goes on with a change: {said}"]
    assert check_same_run(Path("state"), kept, before, 1, FILES, False) == []


def test_more_steps_and_more_data_need_no_word_and_are_told(recipe, data):
    before = load_recipe(recipe)
    now = changed(before, "run.steps", 12)
    now = changed(now, "data", (*before.data, Data("more", 2.0, (0, 5))))
    assert check_same_run(Path("state"), described(before, 1, FILES), now, 1, FILES, False) == [
        f"goes on with a change: data is {data} (weight 1), more (weight 2, episodes [0, 5]), was {data} (weight 1)",
        "goes on with a change: run.steps is 12, was 6",
    ]


def test_data_that_became_more_at_the_same_place_are_told(tmp_path, capsys):
    there = toy_set(tmp_path / "toy", episodes=4)
    recipe = recipe_of(tmp_path, there, run=RUN)
    assert train(recipe, tmp_path / "out", "--until", "2") == 0
    shutil.rmtree(there)
    toy_set(there, episodes=5)
    capsys.readouterr()
    assert train(recipe, tmp_path / "out", "--resume") == 0
    said = capsys.readouterr().err
    assert f"goes on with a change: {there} has 5 episodes, " in said and "and had 4 episodes, " in said


def test_other_units_of_the_same_data_and_another_number_of_processes_are_other_recipes(recipe, data):
    before = load_recipe(recipe)
    now = changed(before, "data", (dataclasses.replace(before.data[0], units="ros"),))
    with pytest.raises(InputError, match=f"the units of {data} is 'ros', was ''"):
        check_same_run(Path("state"), described(before, 1, FILES), now, 1, FILES, False)
    with pytest.raises(InputError, match="the number of processes is 1, was 2"):
        check_same_run(Path("state"), described(before, 2, FILES), before, 1, FILES, False)


def test_what_a_later_version_adds_to_recipes_is_as_it_was_where_the_recipe_says_nothing(recipe):
    before = load_recipe(recipe)
    kept = described(before, 1, FILES)
    assert '"look_head": 0, ' in kept["recipe"] or ', "look_head": 0' in kept["recipe"]
    kept["recipe"] = kept["recipe"].replace(', "look_head": 0', "").replace('"look_head": 0, ', "")
    assert check_same_run(Path("state"), kept, before, 1, FILES, False) == []
    with pytest.raises(InputError, match="objective.look_head is 1, was 0"):
        check_same_run(Path("state"), kept, changed(before, "objective.look_head", 1), 1, FILES, False)


@pytest.mark.parametrize("name", FILES)
def test_a_run_goes_on_with_no_other_file_at_the_same_place_unless_told_to(recipe, name):
    before = load_recipe(recipe)
    kept, now = described(before, 1, FILES), FILES | {name: "other"}
    with pytest.raises(InputError, match=f"other files: the {name} has changed since.*--accept-changes"):
        check_same_run(Path("state"), kept, before, 1, now, False)
    said = [f"goes on with a change: the {name} has changed since"]
    assert check_same_run(Path("state"), kept, before, 1, now, True) == said


def test_a_state_that_does_not_say_its_files_goes_on_and_says_so(recipe):
    before = load_recipe(recipe)
    kept = described(before, 1, {})
    del kept["files"]
    (said,) = check_same_run(Path("state"), kept, before, 1, FILES, False)
    assert "what files it was begun with (norm statistics, depth codebook, FAST tokenizer, start weights)" in said


def test_each_file_that_is_made_anew_is_known_from_the_one_before(tmp_path, data):
    def found() -> dict[str, str]:
        loaded = load_recipe(path)
        shutil.rmtree(tmp_path / "files", ignore_errors=True)
        return begin(loaded, tmp_path / "files").digests

    def other() -> set[str]:
        nonlocal before
        last, before = before, found()
        return {name for name in before if before[name] != last[name]}

    coded = toy_set(tmp_path / "coded", episodes=2)
    start = {"blueprint": BLUEPRINT | {"action_mode": "both", "num_action_tokens": 96}}
    first = recipe_of(tmp_path, coded, start=start | {"norm_stats": str(norm_stats(tmp_path))}, run=RUN)
    assert train(first, tmp_path / "start", "--until", "1") == 0
    fast, weights = fast_of(coded, tmp_path / "fast"), tmp_path / "start/checkpoint/model.safetensors"
    (tmp_path / "start/checkpoint/depth_codebook.json").unlink()
    stats = norm_stats(tmp_path)
    start = {"checkpoint": str(weights.parent), "norm_stats": str(stats), "fast_tokenizer": str(fast)}
    path = recipe_of(tmp_path, coded, start=start, run=RUN)
    before = found()
    assert all(before.values()) and other() == set()
    stats.write_text(json.dumps(json.loads(stats.read_text()), indent=3))    # the same, written in another way
    assert other() == set()
    stats.write_text(stats.read_text().replace("-1.0", "-1.25"))
    assert other() == {"norm statistics"}
    described_codes(coded, [2 * value for value in METRES])
    assert other() == {"depth codebook"}
    (fast / "tokenizer.json").write_text((fast / "tokenizer.json").read_text() + " ")
    assert other() == {"FAST tokenizer"}
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items() if "inv_freq" not in name}, weights)
    assert other() == {"start weights"}


def test_an_average_may_be_begun_in_the_middle_of_a_run_that_had_none(tmp_path, data, capsys):
    recipe = recipe_of(tmp_path, data, optimizer=OPTIMIZER | {"ema": 0.0}, run=RUN)
    assert train(recipe, tmp_path / "out", "--until", "2") == 0
    more = ("--resume", "--until", "3", "--set", "optimizer.ema=0.5")
    assert train(recipe, tmp_path / "out", *more) == 2
    assert "optimizer.ema is 0.5, was 0.0" in capsys.readouterr().err
    assert train(recipe, tmp_path / "out", *more, "--accept-changes") == 0
    said = capsys.readouterr().err
    assert "optimizer.ema is 0.5, was 0.0" in said and "it begins with the weights as they are" in said


def test_a_state_of_an_earlier_version_goes_on_and_what_is_not_known_is_told(recipe, whole, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(recipe, out, "--until", "3") == 0
    save_file(load_file(out / "state.safetensors"), out / "state.safetensors", {"step": "3"})
    assert train(recipe, out, "--resume") == 0
    assert "keeps no recipe: whether the run was begun with this seed" in capsys.readouterr().err
    assert differ(out, whole) == []
    assert train(recipe, out, "--resume") == 0
    assert "keeps no recipe" not in capsys.readouterr().err
