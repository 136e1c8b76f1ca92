# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Training of parts of a checkpoint, and by several processes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_training import recipe_of, train
from training_sets import TAG, toy_set

from molmoact2_data.layout import CORRECTED, NOTES
from molmoact2_data.reader import Dataset
from molmoact2_model import MolmoAct2Policy
from molmoact2_model.training.beginning import begin
from molmoact2_model.training.loop import Trainer, open_processes
from molmoact2_model.training.recipe import load_recipe

RUN = {"steps": 6, "batch": 4, "every": 1, "buffer": 20, "save_every": 100}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return toy_set(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(scope="module")
def base(tmp_path_factory, data) -> Path:
    """A checkpoint to go on from."""
    folder = tmp_path_factory.mktemp("base")
    assert train(recipe_of(folder, data, run=RUN), folder / "out") == 0
    return folder / "out/checkpoint"


def finetune(folder: Path, data: Path, base: Path, **optimizer) -> Path:
    optimizer = {"rate": 3e-3, "warmup": 1} | optimizer
    return recipe_of(folder, data, start={"checkpoint": str(base)}, optimizer=optimizer, run=RUN)


def changed(before: Path, after: Path) -> set[str]:
    first, second = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert first.keys() == second.keys()
    return {name for name, tensor in first.items() if not torch.equal(tensor, second[name])}


def test_adapters_are_added_to_the_weights_of_a_checkpoint_in_the_released_layout(tmp_path, data, base):
    recipe = finetune(tmp_path, data, base, trained="lora", rank=4, alpha=8, ema=0.5)
    assert train(recipe, tmp_path / "out") == 0
    other = changed(base, tmp_path / "out/checkpoint")
    assert any("transformer.blocks" in name and "action_expert" not in name for name in other)
    assert any("action_expert" in name for name in other)
    assert not [name for name in other if "vision" in name or "image" in name or "wte" in name or "lm_head" in name]
    session = MolmoAct2Policy.from_pretrained(tmp_path / "out/checkpoint").session(norm_tag=TAG)
    sample = next(Dataset(data).samples(Dataset(data).episodes[0]))
    chunk = session.infer(list(sample.images.values()), sample.state, "go to the red square", seed=1).actions
    assert np.isfinite(chunk).all()


def test_what_is_saved_computes_what_was_trained_with_adapters(tmp_path, data, base):
    recipe = load_recipe(finetune(tmp_path, data, base, trained="lora", rank=4, alpha=8, ema=0.0))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "out", open_processes("cpu"))
    trainer.run(False)
    batch = next(trainer._batches(iter(trainer._stream())))
    with torch.no_grad():
        _, adapted = trainer.model.read(batch)
        with trainer._trained.released():
            _, merged = trainer.model.read(batch)
        _, again = trainer.model.read(batch)
    for one, two, three in zip(adapted, merged, again, strict=True):
        for kind in (0, 1):
            torch.testing.assert_close(one[kind], two[kind], rtol=1e-4, atol=1e-5)
            assert torch.equal(one[kind], three[kind])


def test_a_run_with_adapters_goes_on_where_it_was(tmp_path, data, base):
    recipe = finetune(tmp_path, data, base, trained="lora", rank=4, alpha=8)
    assert train(recipe, tmp_path / "whole") == 0
    assert train(recipe, tmp_path / "parts", "--until", "3") == 0
    assert train(recipe, tmp_path / "parts", "--resume") == 0
    assert not changed(tmp_path / "whole/checkpoint", tmp_path / "parts/checkpoint")


def test_the_expert_alone_is_trained_where_the_recipe_says_so(tmp_path, data, base):
    assert train(finetune(tmp_path, data, base, trained="expert"), tmp_path / "out") == 0
    other = changed(base, tmp_path / "out/checkpoint")
    assert other and all("action_expert" in name for name in other)


# --- several processes ------------------------------------------------------------------------------------------------
def test_two_processes_stop_together_where_one_is_interrupted_and_are_resumed_to_what_they_would_have_been(
    tmp_path, data, base
):
    """Some batches have nothing to learn in one of the processes, and the other does not wait for it in vain."""
    idle = toy_set(tmp_path / "idle")
    (idle / NOTES).write_text(json.dumps({CORRECTED: 1}))
    recipe = recipe_of(
        tmp_path, data, start={"checkpoint": str(base)}, data=[{"path": str(data)}, {"path": str(idle)}],
        mix={"action": 1.0}, objective={}, optimizer={"rate": 3e-3, "warmup": 1, "ema": 0.5},
        run=RUN | {"steps": 100_000, "batch": 1, "accumulate": 2, "shift": False, "save_every": 2},
    )  # fmt: skip
    # As at a terminal: whoever runs tests in the background has them ignore Ctrl-C.
    command = ["env", "--default-signal=INT", sys.executable, str(Path(__file__).with_name("two_processes.py"))]
    both = subprocess.run([*command, str(recipe), str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("go on with --resume") == 1 and both.stdout.count("2 processes, 1 frames of each") == 3
    assert not changed(tmp_path / "whole/checkpoint", tmp_path / "cut/checkpoint")
    with safe_open(tmp_path / "whole/state.safetensors", framework="pt") as file:
        until = ("--until", file.metadata()["step"])
    assert train(recipe, tmp_path / "alone", "--device", "cpu", *until) == 0
    assert changed(tmp_path / "alone/checkpoint", tmp_path / "whole/checkpoint")    # the second one's frames count
