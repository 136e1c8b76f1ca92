# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Language weights in 8 and 4 bits: what becomes of them, what does not, and how far results move."""

import itertools
import json
import re
import sys

import numpy as np
import pytest
import torch
from golden_set import textured
from made_networks import LITTLE, made
from PIL import Image
from torch import nn

from molmoact2_contract import cli
from molmoact2_model import (
    CheckpointError,
    EngineOptions,
    InputError,
    ModelError,
    MolmoAct2Policy,
    engine_options,
    machine,
    quantized,
)
from molmoact2_model.bench.networks import RELEASED, SIZES, SMALL, released_config
from molmoact2_model.bench.roofline import Shape, work
from molmoact2_model.blueprint import Blueprint
from molmoact2_model.checkpoint import quantizing, save_weights
from molmoact2_model.engine_options import BYTES, GROUP, INT8, NF4, STORED
from molmoact2_model.footprint import cached, computed, held, read_back
from molmoact2_model.optimizations import PLAIN, Optimizations
from molmoact2_model.quantized import WORST, QuantizedLinear, product
from molmoact2_model.serving.service import ServeOptions, Service

KINDS = [INT8, NF4]
STATE = np.zeros(3, np.float32)
VIEWS = [[textured(seed, size=(120, 160))] for seed in (0, 0, 1)]
# Of the golden set's checkpoint, whose weights are random, in float32: largest error of an action in a range of
# -1 to 1 with depth off, share of the codes of full depth that differ. About twice what was seen.
MOVED = {INT8: (0.06, 0.35), NF4: (1.0, 0.9)}


def quantize(network, kind):
    """All at once, as the loader does one by one."""
    change = quantizing(network, kind)
    for module in list(network.vlm.model.language_model.layers.modules()):
        change(module)


def little(folder, kind, blueprint=LITTLE, text=None, change=lambda network: None):
    def both(network):
        change(network)
        quantize(network, kind)

    return made(folder, blueprint, text, change=both, optimizations=Optimizations())


def layers(network):
    """Linear layers of the language model's blocks by name, of either kind."""
    blocks = network.vlm.model.language_model.layers
    return {name: part for name, part in blocks.named_modules() if isinstance(part, (nn.Linear, QuantizedLinear))}


def linear(outputs, inputs, bias=False, dtype=torch.float32, seed=0):
    layer = nn.Linear(inputs, outputs, bias=bias).requires_grad_(False).to(dtype)
    layer.weight.normal_(generator=torch.Generator().manual_seed(seed)).mul_(inputs**-0.5)
    return layer


@pytest.fixture(scope="module")
def loaded(golden):
    return {kind: MolmoAct2Policy.from_pretrained(golden.checkpoint, language_weights=kind) for kind in KINDS}


# --- what is in fewer bits, and what is as it was ----------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_the_linear_layers_of_the_language_models_blocks_are_and_all_else_is_as_stored(golden, loaded, kind):
    stored = MolmoAct2Policy.from_pretrained(golden.checkpoint).network
    found = loaded[kind].network
    assert set(layers(found)) == set(layers(stored)) and len(layers(found)) == 7 * found.config.text.num_layers
    assert {type(layer) for layer in layers(found).values()} == {QuantizedLinear}
    for root in ("vlm", "expert"):
        own = dict(getattr(found, root).named_parameters())
        for name, parameter in getattr(stored, root).named_parameters():
            if re.search(r"language_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight", name):
                assert name not in own
            else:
                assert torch.equal(own.pop(name), parameter)
        assert not own
    modules = [type(module) for root in (found.vlm, found.expert) for module in root.modules()]
    assert modules.count(QuantizedLinear) == len(layers(found))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_is_further_from_the_stored_one_than_half_a_step_of_its_group(kind, dtype):
    for outputs, inputs in ((128, 64), (160, 160), (3, 128)):    # rows of 160 do not end where groups do
        weight = linear(outputs, inputs, dtype=dtype).weight
        layer = QuantizedLinear.of(linear(outputs, inputs, dtype=dtype), kind)
        dense = layer.weight()
        assert dense.shape == weight.shape and dense.dtype == dtype
        largest = weight.float().view(-1, GROUP).abs().amax(1, keepdim=True)
        worst = ((dense - weight).float().view(-1, GROUP).abs() / largest).max()
        assert WORST[kind] / 4 < worst <= WORST[kind] + torch.finfo(dtype).eps
        assert layer.numbers.nbytes + layer.scales.nbytes == weight.numel() * BYTES[kind]


@pytest.mark.parametrize("inputs", [64, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_those_of_the_numbers_that_stand_for_the_weights_in_the_type_of_the_input(kind, inputs):
    for dtype, rows in itertools.product((torch.float32, torch.bfloat16), (1, 5)):
        layer = QuantizedLinear.of(linear(64, inputs, bias=True, dtype=dtype), kind)
        x = torch.randn((1, rows, inputs), generator=torch.Generator().manual_seed(1)).to(dtype)
        found = layer(x)
        assert found.dtype == dtype and found.shape == (1, rows, 64)
        torch.testing.assert_close(found, nn.functional.linear(x, layer.weight(), layer.bias))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_one_input_are_joined_without_holding_anything_twice(kind):
    parts = [linear(outputs, 64, bias=True, seed=outputs) for outputs in (64, 32, 32)]
    parts = [QuantizedLinear.of(part, kind) for part in parts]
    x = torch.randn((3, 64), generator=torch.Generator().manual_seed(2))
    wanted = torch.cat([part(x) for part in parts], dim=-1)
    whole = product(parts)
    torch.testing.assert_close(whole(x), wanted)
    torch.testing.assert_close(torch.cat([part(x) for part in parts], dim=-1), wanted)
    for name in ("numbers", "scales", "bias"):
        stores = {getattr(part, name).untyped_storage().data_ptr() for part in (whole, *parts)}
        assert len(stores) == 1, name


# --- a whole network --------------------------------------------------------------------------------------
def ask(policy, depth, optimizations=None, **options):
    session = policy.session(norm_tag="one", depth=depth, optimizations=optimizations, **options)
    return [session.infer(images, STATE, "fold", seed=1, num_steps=2) for images in VIEWS]


def assert_alike(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.trace.depth_codes, other.trace.depth_codes)
        np.testing.assert_allclose(one.actions, other.actions, atol=2e-5 * max(1.0, np.abs(other.actions).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_computes_as_one_of_those_numbers_would_and_fused_or_not_alike_in_every_depth_mode(tmp_path, kind):
    for folder in ("found", "oracle"):
        (tmp_path / folder).mkdir()
    policy = little(tmp_path / "found", kind)

    def dense(network):
        for name, layer in layers(network).items():
            layer.weight = nn.Parameter(layers(policy.network)[name].weight(), requires_grad=False)

    oracle = made(tmp_path / "oracle", LITTLE, change=dense)
    rule = {"cache_policy": "reference"}
    wanted = {depth: ask(oracle, depth, PLAIN) for depth in ("off", "full")}
    wanted["adaptive"] = ask(oracle, "adaptive", PLAIN, **rule)
    for optimizations in (PLAIN, Optimizations()):
        for depth in ("off", "full"):
            assert_alike(ask(policy, depth, optimizations), wanted[depth])
        assert_alike(ask(policy, "verified", optimizations), wanted["full"])
        for draft in (False, True):
            assert_alike(ask(policy, "adaptive", optimizations, draft=draft, **rule), wanted["adaptive"])
    assert len(np.unique(wanted["full"][0].trace.depth_codes)) > 2    # they tell something


def test_biases_of_attention_and_blocks_that_are_not_fused_go_with_them(tmp_path):
    def biased(network):
        for name, parameter in network.vlm.model.language_model.layers.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.3)

    for text in ({"qkv_bias": True}, {"norm_after": True}):
        policy = little(tmp_path, INT8, text=text, change=biased)
        assert_alike(ask(policy, "full", Optimizations()), ask(policy, "full", PLAIN))


@pytest.mark.parametrize("kind", KINDS)
def test_keys_values_and_context_are_of_the_networks_type(golden, kind):
    policy = MolmoAct2Policy.from_pretrained(golden.checkpoint, dtype="bfloat16", language_weights=kind)
    for optimizations in (PLAIN, Optimizations()):
        session = policy.session(norm_tag="tiny_arm", depth="verified", optimizations=optimizations)
        session.infer([textured()], np.zeros(7, np.float32), "go", seed=1, num_steps=1)
        states = session.engine._cache.states()
        assert {part.dtype for pair in states for part in pair} == {torch.bfloat16}
        assert session.engine._hidden.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_results_move_no_further_from_float32_than_is_told(policy, loaded, kind):
    def results(which, depth):
        session = which.session(norm_tag="tiny_arm", depth=depth)
        return session.infer([textured(), textured(7)], np.zeros(7, np.float32), "go", seed=1)

    actions, codes = MOVED[kind]
    found, wanted = (results(which, "off").actions for which in (loaded[kind], policy))
    assert 0.0 < np.abs(found - wanted).max() <= actions
    found, wanted = (results(which, "full").trace.depth_codes for which in (loaded[kind], policy))
    assert (found != wanted).mean() <= codes


# --- memory -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [STORED, *KINDS])
def test_what_is_computed_from_the_sizes_is_what_is_held(golden, kind):
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        policy = MolmoAct2Policy.from_pretrained(golden.checkpoint, dtype=dtype, language_weights=kind)
        for _ in range(2):    # before and after the fused blocks took the weights over
            assert held(policy.network) == computed(policy.config, size, kind)
            policy.session(norm_tag="tiny_arm")


def test_a_layer_is_given_up_as_soon_as_it_is_in_fewer_bits(tmp_path):
    network = made(tmp_path, LITTLE).network
    change = quantizing(network, NF4)
    plain = list(layers(network).values())
    change(plain[0])
    assert plain[0].weight is None and plain[1].weight is not None
    assert sum(isinstance(layer, QuantizedLinear) for layer in layers(network).values()) == 1


def test_the_released_size_is_computed_to_take_less_than_12_gb_and_6_gb_in_4_bits():
    config = released_config(RELEASED)
    whole = {
        kind: sum(computed(config, 2, kind).values()) + cached(config.text, 1024, 2) + read_back(config.text, 2, kind)
        for kind in (STORED, INT8, NF4)
    }
    assert whole[STORED] < 12e9 and whole[INT8] < 8e9 and whole[NF4] < 6e9


def test_a_benchmark_of_the_memory_alone_says_that_it_is_computed(capsys):
    assert cli.main(["bench-model", "--random", "small", "--only-memory", "--dtype", "bfloat16"]) == 0
    said = capsys.readouterr().out
    assert "small size, bfloat16, 2 cameras: computed from the sizes, not measured" in said
    rows = [line.rsplit(maxsplit=4) for line in said.splitlines()[3:-2]]
    found = {name: [float(part) for part in parts[:3]] for name, *parts in rows}
    config = released_config(SMALL)
    wanted = [computed(config, 2, kind)["language blocks"] / 1e6 for kind in (STORED, *KINDS)]
    assert found["language blocks"] == pytest.approx(wanted, abs=0.006) and found["sum"] == sorted(found["sum"])[::-1]


# --- the ways in ------------------------------------------------------------------------------------------
def test_infer_computes_with_the_language_weights_that_are_asked_for(golden, loaded, policy, tmp_path):
    pictures = [textured(), textured(7)]
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    line = ["infer", "--checkpoint", golden.checkpoint, "--tag", "tiny_arm", "--instruction", "go", "--seed", 3]
    line += ["--state", "0,0,0,0,0,0,0", "--num-steps", 2, "--out", tmp_path, "--language-weights", NF4]
    line += [part for place in range(2) for part in ("--image", tmp_path / f"{place}.png")]
    assert cli.main([str(part) for part in line]) == 0
    asked = (pictures, np.zeros(7, np.float32), "go")
    found, other = (p.session(norm_tag="tiny_arm").infer(*asked, seed=3, num_steps=2) for p in (loaded[NF4], policy))
    np.testing.assert_allclose(np.load(tmp_path / "actions.npy"), found.actions, atol=1e-5)
    assert np.abs(found.actions - other.actions).max() > 1e-3


def test_a_server_tells_what_its_language_weights_are(loaded, policy):
    for which, kind in ((loaded[INT8], INT8), (policy, STORED)):
        machine = Service(which, "sum", ServeOptions(tag="tiny_arm")).about()["molmoact2"]["machine"]
        assert machine["language_weights"] == kind and ("bitsandbytes" in machine) == (kind != STORED)


def test_a_benchmark_holds_them_against_the_first_row_over_the_same_calls(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SIZES, "small", LITTLE)
    line = ["bench-model", "--random", "small", "--calls", 1, "--num-steps", 1, "--depth", "full", "--rates", "10,0.1"]
    line += ["--cameras", 1, "--out", tmp_path, "--threads", 1, "--compare-weights", "int8,nf4"]
    assert cli.main([str(part) for part in line]) == 0
    found = json.loads((tmp_path / "bench_model.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["plain", "optimised", "optimised, int8", "optimised, nf4"]
    errors = [row["action_error_max"] for row in rows.values()]
    assert errors[0] == 0.0 and errors[1] < 1e-5 < errors[2] < errors[3]
    assert all(0 <= row["codes_that_differ_mean"] <= row["codes_that_differ"] <= 1 for row in rows.values())
    parts = found["weights_by_part_MiB"]
    assert parts["optimised"]["vision"] == parts["optimised, nf4"]["vision"]
    assert parts["optimised"]["language blocks"] > 3 * parts["optimised, int8"]["language blocks"]
    assert "weights [MiB]" in capsys.readouterr().out and found["bitsandbytes"]
    assert cli.main(["bench-model", "--random", "small", "--compare-weights", "int4"]) == 2
    assert "--compare-weights has 'int4', expected some of stored, int8, nf4" in capsys.readouterr().err


def test_the_least_time_counts_the_bytes_that_are_read():
    config, shape = released_config(SMALL), Shape(2, 500, 30, 10, 1, 1, 1)
    stored, fewer = (work(config, shape, 2, size) for size in (None, BYTES[NF4]))
    assert fewer["depth"].bytes < stored["depth"].bytes and fewer["depth"].flop == stored["depth"].flop
    assert fewer["vision"] == stored["vision"] and fewer["expert"] == stored["expert"]


# --- refusals ---------------------------------------------------------------------------------------------
def test_without_the_library_every_way_in_names_it_and_how_to_get_it(golden, monkeypatch, capsys):
    monkeypatch.setattr(engine_options, "find_spec", lambda name: None)
    said = "need bitsandbytes, which is not installed; pip install 'bitsandbytes"
    with pytest.raises(InputError, match=said):
        MolmoAct2Policy.from_pretrained(golden.checkpoint, language_weights=NF4)
    line = ["infer", "--image", "x", "--state", "0", "--instruction", "go", "--tag", "one", "--out", "x"]
    for command in (line, ["serve"], ["bench-model"]):
        assert cli.main([*command, "--checkpoint", "/nowhere", "--language-weights", NF4]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["bench-model", "--checkpoint", "/nowhere", "--compare-weights", "stored,int8"]) == 2
    assert said in capsys.readouterr().err
    MolmoAct2Policy.from_pretrained(golden.checkpoint, language_weights=STORED)    # which does not need it


def test_what_is_unknown_or_cannot_be_is_refused_by_name(golden, loaded, tmp_path):
    with pytest.raises(InputError, match=r"language_weights is 'int4', expected one of \['stored', 'int8', 'nf4'\]"):
        MolmoAct2Policy.from_pretrained(golden.checkpoint, language_weights="int4")
    with pytest.raises(InputError, match="graphs with language_weights nf4: no step over weights of few bits was ever"):
        EngineOptions(optimizations="graphs", language_weights=NF4).check_device("cuda")
    with pytest.raises(InputError, match="graphs with language_weights int8"):
        loaded[INT8].session(norm_tag="tiny_arm", optimizations=Optimizations(graphs=True))
    with pytest.raises(CheckpointError, match="loaded with language_weights nf4, and cannot be written"):
        save_weights(loaded[NF4].network, tmp_path)
    with pytest.raises(CheckpointError, match=r"groups of 64 numbers, and .* a weight of \(36, 36\); use .* stored"):
        little(tmp_path, NF4, Blueprint(hidden_size=36, num_heads=1, num_kv_heads=1, head_dim=36, num_layers=1))


def test_a_weight_that_is_not_finite_is_refused_and_not_rounded_to_something():
    layer = linear(64, 64)
    layer.weight[3, 4] = float("nan")
    with pytest.raises(CheckpointError, match="is not finite"):
        QuantizedLinear.of(layer, INT8)


@pytest.mark.parametrize("spoilt", ["weight", "forward"])
def test_a_library_that_reads_back_something_else_is_refused(spoilt, monkeypatch):
    right = getattr(QuantizedLinear, spoilt)
    monkeypatch.setattr(QuantizedLinear, spoilt, lambda *given: right(*given).roll(1, -1))
    for kind, dtype in itertools.product(KINDS, (torch.float32, torch.bfloat16)):
        with pytest.raises(ModelError, match=f"does not read back what it wrote as {kind}"):
            QuantizedLinear.of(linear(64, 1024, dtype=dtype), kind)


def test_the_library_is_imported_without_the_package_that_would_fetch_code_for_it(tmp_path, monkeypatch):
    (tmp_path / "kernels.py").write_text("")
    package = tmp_path / "bitsandbytes"
    package.mkdir()
    (package / "functional.py").write_text("")
    (package / "__init__.py").write_text("try:\n    import kernels\nexcept ImportError:\n    kernels = None\n")
    for name in [name for name in sys.modules if name.split(".")[0] in ("bitsandbytes", "kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert quantized.library.__wrapped__().kernels is None
    assert "kernels" not in sys.modules    # others may use it
    for name in ("bitsandbytes", "bitsandbytes.functional"):
        monkeypatch.delitem(sys.modules, name)


def test_what_a_result_depends_on_names_the_library():
    assert "bitsandbytes" not in machine("cpu")
    assert machine("cpu", NF4)["bitsandbytes"] == quantized.library().__version__
