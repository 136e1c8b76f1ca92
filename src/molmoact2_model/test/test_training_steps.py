# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""How training computes and steps: attention in products, bf16, Muon."""

from pathlib import Path

import pytest
import torch
from test_training import recipe_of, train
from test_training_parts import changed
from torch.nn import functional
from training_sets import toy_set

from molmoact2_model import InputError
from molmoact2_model.training.attention import attention_in_products, faster_attention
from molmoact2_model.training.beginning import begin
from molmoact2_model.training.loop import Trainer, open_processes
from molmoact2_model.training.recipe import load_recipe

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
