# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How training computes and steps: attention in products, bf16, Muon; what there is to learn of a batch."""

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_training import curves, recipe_of, train
from test_training_parts import changed
from torch.nn import functional
from training_sets import toy_set

from molmoact2_data.layout import CORRECTED, NOTES, DatasetError
from molmoact2_data.streaming import Stream
from molmoact2_model import InputError, checkpoint
from molmoact2_model.training import beginning, loop, saving
from molmoact2_model.training.attention import attention_in_products, faster_attention
from molmoact2_model.training.beginning import begin
from molmoact2_model.training.loop import Trainer, open_processes
from molmoact2_model.training.network import Losses, TrainingModel
from molmoact2_model.training.recipe import load_recipe
from molmoact2_model.training.trained import check_taught

RUN = {"steps": 6, "batch": 4, "every": 1, "buffer": 20, "save_every": 100}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return toy_set(tmp_path_factory.mktemp("data") / "toy")


def shown(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "added"])
@pytest.mark.parametrize("key_heads", [4, 2])
def test_attention_in_products_is_torchs_with_its_gradients(mask, key_heads):
    query, key, value = shown((3, 4, 5, 8), 1), shown((3, key_heads, 7, 8), 2), shown((3, key_heads, 7, 8), 3)
    visible = torch.rand((3, 1, 5, 7), generator=torch.Generator().manual_seed(4)) < 0.7
    visible[..., 0] = True
    options = {
        "none": {}, "causal": {"is_causal": True}, "bool": {"attn_mask": visible},
        "added": {"attn_mask": (~visible).float() * -1e9},
    }[mask]    # fmt: skip
    options |= {"scale": 0.3, "enable_gqa": key_heads != 4}
    found = []
    for attention in (functional.scaled_dot_product_attention, attention_in_products):
        mixed = attention(query, key, value, **options)
        found.append((mixed, *torch.autograd.grad(mixed.square().sum(), (query, key, value))))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_attention_in_products_stands_in_only_where_it_is_the_faster_one():
    query = shown((1, 1, 2, 4), 1)
    with pytest.raises(ValueError, match="dropout"), faster_attention(torch.device("cpu"), "bf16"):
        functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    with faster_attention(torch.device("cpu"), "fp32"):
        functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)


def test_bf16_computes_nearly_what_fp32_does(tmp_path, data):
    losses = {}
    for precision in ("fp32", "bf16"):
        recipe = load_recipe(recipe_of(tmp_path, data, run=RUN | {"precision": precision}))
        trainer = Trainer(recipe, begin(recipe, tmp_path / precision), tmp_path / "out", open_processes("cpu"))
        losses[precision], _ = trainer._step(trainer._batches(iter(trainer._stream())))
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"]["flow"] == pytest.approx(losses["fp32"]["flow"], rel=0.03)
    assert losses["bf16"]["text"] == pytest.approx(losses["fp32"]["text"], rel=0.03)


def test_muon_moves_every_weight_and_goes_on_where_it_was(tmp_path, data):
    recipe = recipe_of(tmp_path, data, optimizer={"kind": "muon", "rate": 3e-3, "warmup": 1}, run=RUN)
    assert train(recipe, tmp_path / "whole") == 0
    assert train(recipe, tmp_path / "parts", "--until", "3") == 0
    halfway = tmp_path / "halfway"
    (tmp_path / "parts/checkpoint").rename(halfway)
    assert train(recipe, tmp_path / "parts", "--resume") == 0
    assert not changed(tmp_path / "whole/checkpoint", tmp_path / "parts/checkpoint")
    other = changed(halfway, tmp_path / "whole/checkpoint")
    for part in ("vision_backbone", "transformer.blocks", "action_expert", "wte"):
        assert any(part in name for name in other), part


def test_an_optimizer_that_is_not_known_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"optimizer\.kind is adamw or muon"):
        load_recipe(recipe_of(tmp_path, data, optimizer={"kind": "sgd"}))


def test_what_is_logged_of_a_step_is_the_mean_over_all_its_batches(tmp_path, data, monkeypatch):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN | {"accumulate": 3, "batch": 2}))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "out", open_processes("cpu"))
    parts = iter([{"flow": 1.0}, {"flow": 2.0, "text": 4.0}, {"flow": 6.0}])
    monkeypatch.setattr(trainer, "_backward", lambda *_: Losses(torch.zeros(()), next(parts)))
    logged, _ = trainer._step(itertools.repeat(None))
    assert (logged["flow"], logged["text"]) == (3.0, 4.0)


# --- batches without anything to learn --------------------------------------------------------------------------------
def without_lessons(root: Path) -> Path:
    """Somebody else drove, and nobody says what would have been right."""
    toy_set(root)
    (root / NOTES).write_text(json.dumps({CORRECTED: 2}))
    return root


IDLE_RUN = RUN | {"steps": 12, "batch": 1, "every": 2, "shift": False}
ACTIONS = {"mix": {"action": 1.0}, "objective": {}, "optimizer": {"rate": 3e-3, "warmup": 1, "decay": 0.1}}


def test_a_step_without_anything_to_learn_moves_nothing_and_the_run_goes_on(tmp_path, data):
    sets = [{"path": str(data)}, {"path": str(without_lessons(tmp_path / "idle"))}]
    assert train(recipe_of(tmp_path, data, data=sets, run=IDLE_RUN, **ACTIONS), tmp_path / "out") == 0
    moved = curves(tmp_path / "out")["gradient"]
    assert len(moved) == 12 and 0.0 in moved and max(moved) > 0
    recipe = load_recipe(recipe_of(tmp_path, Path(sets[1]["path"]), run=IDLE_RUN, **ACTIONS))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "none", open_processes("cpu"))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    logged, _ = trainer._step(trainer._batches(iter(trainer._stream())))
    assert logged["gradient"] == 0.0 and trainer.step == 1
    assert all(torch.equal(one, two) for one, two in zip(before, trainer.model.parameters(), strict=True))


def test_what_the_objective_does_not_weigh_teaches_nothing(tmp_path):
    idle = without_lessons(tmp_path / "idle")
    mix, objective = {"action": 1.0, "questions": 1.0}, {"flow": 1.0, "text": 0.0}
    recipe = load_recipe(recipe_of(tmp_path, idle, run=IDLE_RUN, **ACTIONS | {"mix": mix, "objective": objective}))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "none", open_processes("cpu"))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    logged, _ = trainer._step(trainer._batches(iter(trainer._stream())))
    assert logged["text"] > 0 and logged["gradient"] == 0.0
    assert all(torch.equal(one, two) for one, two in zip(before, trainer.model.parameters(), strict=True))


def test_a_run_that_never_has_anything_to_learn_ends_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "IDLE", 3)
    recipe = recipe_of(tmp_path, without_lessons(tmp_path / "idle"), run=IDLE_RUN, **ACTIONS)
    assert train(recipe, tmp_path / "out") == 2
    assert "nothing to learn in the last 3 steps" in capsys.readouterr().err


@pytest.mark.parametrize("run", [{"every": 2, "shift": True}, {"every": 3, "shift": False}])
def test_corrections_are_read_at_the_frames_that_were_corrected_or_not_at_all(tmp_path, capsys, run):
    recipe = recipe_of(tmp_path, without_lessons(tmp_path / "idle"), run=RUN | run)
    assert train(recipe, tmp_path / "out") == 2
    assert "was corrected at every 2 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mix": {"depth": 1.0, "places": True}, "optimizer": {"trained": "expert"}}, "set mix.depth to 0"),
        ({"objective": {"flow": 0.0, "place": 1.0}, "optimizer": {"vision": 0.0, "language": 0.0}}, "objective.flow"),
    ],
)
def test_a_recipe_whose_batches_cannot_teach_what_it_trains_is_refused(tmp_path, data, changes, said):
    with pytest.raises(InputError, match=said):
        check_taught(load_recipe(recipe_of(tmp_path, data, **changes)))
    check_taught(load_recipe(recipe_of(tmp_path, data, **changes | {"optimizer": {"trained": "lora"}})))


# --- before the first step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", ["named by torch", "asked of the processor"])
def test_too_little_memory_is_named_with_what_would_help(tmp_path, data, capsys, monkeypatch, size):
    def full(*_):
        if size == "named by torch":
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        return torch.empty(2**50)

    monkeypatch.setattr(TrainingModel, "forward", full)
    assert train(recipe_of(tmp_path, data, run=RUN), tmp_path / "out", "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert "not enough memory; lower run.batch" in said and "allocate" in said and "Traceback" not in said


def test_a_buffer_that_memory_does_not_hold_is_refused_before_it_is_filled(tmp_path, data, capsys):
    assert train(recipe_of(tmp_path, data, run=RUN | {"buffer": 10**9}), tmp_path / "out", "--device", "cpu") == 2
    said = capsys.readouterr().err
    assert "run.buffer is 1000000000" in said and "lower run.buffer" in said and "Traceback" not in said


def test_the_buffers_of_all_processes_of_a_machine_must_fit_into_it(tmp_path, data, monkeypatch):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "none", open_processes("cpu"))
    monkeypatch.setattr(Stream, "held", 10**9)
    monkeypatch.setattr(loop, "free_memory", lambda _: (1.5e9, "2.0 GB of main memory"))
    trainer._stream()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")    # as torchrun sets it
    with pytest.raises(InputError, match=r"run\.buffer is 20 in each of 2 processes.* take 2\.0 GB, and 1\.5 GB"):
        trainer._stream()


def test_a_state_that_memory_does_not_hold_once_more_is_refused_before_the_first_step(tmp_path, data, monkeypatch):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "none", open_processes("cpu"))
    weights = sum(parameter.numel() for parameter in trainer.model.parameters())
    needed = weights * (8 + 4)    # AdamW's moments, which are not there yet, and the checkpoint in fp32
    monkeypatch.setattr(loop, "free_memory", lambda _: (needed, "main memory"))
    trainer._check_room()
    monkeypatch.setattr(loop, "free_memory", lambda _: (needed - 1, "main memory"))
    with pytest.raises(InputError, match="to save the run takes .* are free; run.saved: bf16"):
        trainer._check_room()


def test_weights_that_memory_does_not_hold_are_refused_before_they_are_loaded(tmp_path, data, monkeypatch):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "out", open_processes("cpu"))
    trainer.save()
    from_there = load_recipe(recipe_of(tmp_path, data, start={"checkpoint": str(tmp_path / "out/checkpoint")}))
    (tmp_path / "out/checkpoint/another.safetensors").write_bytes(b"not of its weights")
    needed = 4 * sum(tensor.numel() for tensor in load_file(tmp_path / "out/checkpoint/model.safetensors").values())
    monkeypatch.setattr(beginning, "free_memory", lambda _: (needed, "main memory"))
    beginning.check_room(from_there)
    monkeypatch.setattr(beginning, "free_memory", lambda _: (needed - 1, "main memory"))
    with pytest.raises(InputError, match="the weights of .*checkpoint take .* while they are loaded"):
        beginning.check_room(from_there)


def test_a_disk_that_is_full_is_named_and_what_was_saved_stands(tmp_path, data, monkeypatch):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN))
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "out", open_processes("cpu"))
    trainer.save()
    before = (tmp_path / "out/state.safetensors").read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"a part of it")
        raise SafetensorError("Error while serializing: No space left on device")

    def full_too(*_, **__):
        raise SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(InputError, match="out cannot be written to at step 0: .*No space left on device.*; make room"):
        trainer.save()
    assert (tmp_path / "out/state.safetensors").read_bytes() == before
    shutil.rmtree(tmp_path / "out/checkpoint")    # its turn would have come
    monkeypatch.setattr(checkpoint, "save_file", full_too)
    with pytest.raises(InputError, match="out cannot be written to at step 0: .*No space left on device.*--resume"):
        trainer.load()
    assert not list((tmp_path / "out").glob("*.partial"))


def test_a_precision_that_accelerate_was_configured_with_does_not_count(monkeypatch):
    AcceleratorState._reset_state(True)    # else it is what an earlier one made of it
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert open_processes("cpu").mixed_precision == "no"


def test_sample_pictures_are_made_where_the_weights_were_moved(tmp_path, data):
    recipe = load_recipe(recipe_of(tmp_path, data, run=RUN))
    elsewhere = SimpleNamespace(device=torch.device("meta"), prepare_model=lambda model: model)
    trainer = Trainer(recipe, begin(recipe, tmp_path / "files"), tmp_path / "none", elsewhere)
    pictures = trainer._pictures()
    assert pictures is not None and pictures._policy.network.device == torch.device("meta")
    assert {weight.device.type for weight in pictures._policy.network.vlm.parameters()} == {"meta"}


def test_data_are_checked_before_any_frame_of_them_is_decoded(tmp_path, data, capsys, monkeypatch):
    def wrong(*_):
        raise DatasetError("episode 3 is broken")

    monkeypatch.setattr(Stream, "check", wrong)
    monkeypatch.setattr(Stream, "_decoded", lambda *_: pytest.fail("decoded"))
    assert train(recipe_of(tmp_path, data, run=RUN), tmp_path / "out") == 2
    assert "episode 3 is broken" in capsys.readouterr().err
