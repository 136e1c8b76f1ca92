# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes are decoded with what there is, and nothing claims more than that."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from vqvae_network import VqVae, saved

from molmoact2_model.depth import (
    CODE,
    CODEBOOK_FORMAT,
    METRES,
    RELATIVE,
    CodeIndex,
    DepthMap,
    checkpoint_decoder,
    open_decoder,
)
from molmoact2_model.errors import CheckpointError, InputError

METRIC = {"format": CODEBOOK_FORMAT, "unit": "m", "values": [0.2, 0.4, 0.8, 1.6]}
ORDER = {"format": CODEBOOK_FORMAT, "unit": "relative", "larger": "nearer", "values": [3.0, 2.0, 1.0, 0.0]}
CODES = np.array([[0, 1], [2, 3]])


def checkpoint(folder: Path, codebook: dict | str | None, codes: int = 4) -> Path:
    (folder / "config.json").write_text(json.dumps({"num_depth_tokens": codes}))
    if codebook is not None:
        text = codebook if isinstance(codebook, str) else json.dumps(codebook)
        (folder / "depth_codebook.json").write_text(text)
    return folder


def test_a_codebook_in_metres_gives_metres(tmp_path):
    depth = checkpoint_decoder(checkpoint(tmp_path, METRIC)).decode(CODES)
    assert (depth.unit, depth.larger, depth.values.dtype) == (METRES, "farther", np.float32)
    np.testing.assert_allclose(depth.values, [[0.2, 0.4], [0.8, 1.6]])
    assert depth.span == pytest.approx((0.2, 1.6))


def test_a_relative_codebook_says_which_way_and_never_metres(tmp_path):
    depth = checkpoint_decoder(checkpoint(tmp_path, ORDER)).decode(CODES)
    assert depth.unit == RELATIVE
    assert depth.farness().tolist() == [[0, pytest.approx(1 / 3)], [pytest.approx(2 / 3), 1]]


def test_a_checkpoint_without_a_codebook_claims_no_depth(tmp_path):
    decoder = checkpoint_decoder(checkpoint(tmp_path, None, 128))
    depth = decoder.decode(np.full((10, 10), 127))
    assert isinstance(decoder, CodeIndex)
    assert (depth.unit, depth.larger, depth.span) == (CODE, "", (0.0, 127.0))
    with pytest.raises(ValueError, match="say nothing of near and far"):
        depth.farness()


@pytest.mark.parametrize(
    ("codebook", "named"),
    [
        ({**METRIC, "values": [0.2, 0.4, 0.8]}, "values has 3 numbers, but the checkpoint has 4 depth codes"),
        ({**METRIC, "values": [0.2, 0.4, 0.8, 1.6, 3.2]}, "values has 5 numbers"),
        (json.dumps({**METRIC, "values": [0.2, float("nan"), 0.8, 1.6]}), r"values\[1\] is nan"),
        (json.dumps({**METRIC, "values": [0.2, 0.4, 0.8, float("inf")]}), r"values\[3\] is inf"),
        ({**METRIC, "values": [0.2, "0.4", 0.8, 1.6]}, r"values\[1\] is '0.4'"),
        ({**METRIC, "values": [0.2, True, 0.8, 1.6]}, r"values\[1\] is True"),
        ({**METRIC, "values": [0.2, 0.0, 0.8, 1.6]}, r"values\[1\] is 0.0 m, expected a distance greater than 0"),
        ({**METRIC, "values": []}, "values must be a list"),
        ({**METRIC, "unit": "mm"}, "unit is 'mm', expected 'm'"),
        ({"format": CODEBOOK_FORMAT, "values": [1, 2, 3, 4]}, "unit is None"),
        ({**METRIC, "larger": "nearer"}, "'larger' is not known with unit 'm'"),
        ({**ORDER, "larger": "bigger"}, "larger is 'bigger'; say what a larger value means"),
        ({**METRIC, "format": "v2"}, "format is 'v2'"),
        ({**METRIC, "scale": 2}, "'scale' is not known"),
        ("[1, 2]", "holds a list"),
        ("{", "not valid JSON"),
    ],
)
def test_a_wrong_codebook_is_refused_by_name(tmp_path, codebook, named):
    folder = checkpoint(tmp_path, codebook)
    with pytest.raises(CheckpointError, match=named) as error:
        checkpoint_decoder(folder)
    assert "depth_codebook.json" in str(error.value)


def test_a_checkpoint_without_depth_codes_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="num_depth_tokens is None"):
        checkpoint_decoder(tmp_path)


@pytest.mark.parametrize(
    ("codes", "named"),
    [
        (np.array([[0, 4]]), "depth code 4 is not in the codebook, which has codes 0 .. 3"),
        (np.array([[-1, 0]]), "depth code -1"),
        (np.array([0, 1]), r"shape \(2,\)"),
        (np.array([[0.0, 1.0]]), "expected a grid"),
        (np.zeros((0, 0), int), "expected a grid"),
    ],
)
def test_codes_that_are_not_in_the_codebook_are_refused_by_name(tmp_path, codes, named):
    for decoder in (CodeIndex(4), checkpoint_decoder(checkpoint(tmp_path, METRIC))):
        with pytest.raises(InputError, match=named):
            decoder.decode(codes)


def test_a_map_of_one_value_has_shares_without_a_division_by_zero():
    depth = DepthMap(np.ones((2, 2), np.float32), METRES, "farther", (1.0, 1.0), "")
    assert depth.shares().tolist() == [[0, 0], [0, 0]]


# --- the decoder network ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return VqVae().eval()


@pytest.mark.parametrize("name", ["vae-final.pt", "vae.safetensors"])
def test_a_decoder_network_gives_relative_depth_as_torch_computes_it(tmp_path, network, name):
    codes = np.random.default_rng(0).integers(0, 12, (10, 10))
    depth = open_decoder(saved(network, tmp_path / name)).decode(codes)
    with torch.inference_mode():
        wanted = network.decoder(network.codebook(torch.from_numpy(codes)).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(depth.values, wanted, atol=1e-6)
    assert depth.values.shape == (320, 320)
    assert (depth.unit, depth.larger, depth.span) == (RELATIVE, "nearer", (wanted.min(), wanted.max()))


def test_a_codebook_stored_by_columns_and_nested_weights_are_understood(tmp_path, network):
    codes = np.arange(12).reshape(3, 4)

    def nest(tensors):
        tensors["quantize.embed"] = tensors.pop("codebook.weight").T.contiguous()
        return {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}

    plain, nested = saved(network, tmp_path / "a.pt"), saved(network, tmp_path / "b.pt", nest)
    wanted, given = (open_decoder(path).decode(codes).values for path in (plain, nested))
    np.testing.assert_array_equal(given, wanted)


def without(*names):
    return lambda tensors: {name: t for name, t in tensors.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("codebook"), "expected one codebook"),
        (without("decoder"), r"no tensor is named decoder"),
        (without("decoder.14."), "the decoder ends where the convolution to the image was expected"),
        (without("decoder.2.net.2."), "decoder.2.net.4 has shape .* expected a convolution of a residual block"),
        (lambda t: {**t, "decoder.6.weight": torch.zeros(3, 8, 4, 4)}, "decoder.6 has shape"),
        (lambda t: {**t, "decoder.5.running_mean": torch.zeros(8)}, "decoder.5.running_mean.weight is missing"),
        (lambda t: {**t, "decoder.0.bias": torch.zeros(3)}, "decoder.0 has shape"),
        (lambda t: {**t, "decoder.15.weight": torch.zeros(1, 1, 1, 1)}, "goes on where it should end: decoder.15"),
        (lambda t: {**t, "other.weight": torch.zeros(5, 24)}, "found codebook.weight, other.weight"),
        (lambda t: {**t, "codebook.weight": torch.zeros(24, 24)}, "codebook.weight is square"),
        (lambda t: {**t, "epoch": 3}, "epoch is a int, expected a tensor"),
    ],
)
def test_a_network_of_another_layout_is_refused_by_name(tmp_path, network, change, named):
    with pytest.raises(CheckpointError, match=named):
        open_decoder(saved(network, tmp_path / "vae.pt", change))


def test_a_refused_layout_says_what_was_taken_for_granted(tmp_path, network):
    with pytest.raises(CheckpointError, match="what weights do not tell is taken as published"):
        open_decoder(saved(network, tmp_path / "vae.pt", without("decoder.14.")))


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"decoder.0.weight": Bomb()}, tmp_path / "vae.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        open_decoder(tmp_path / "vae.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("vae.pt", b"no weights", "cannot be read|holds more than tensors"),
        ("vae.safetensors", b"no weights", "cannot be read"),
        ("vae.pt", None, "no such file"),
        ("vae.onnx", b"", "a depth decoder is a codebook"),
        ("codes.json", None, "codes.json is missing"),
    ],
)
def test_a_file_that_is_no_decoder_is_refused(tmp_path, name, content, named):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=named):
        open_decoder(tmp_path / name)


def test_a_network_with_values_that_are_no_numbers_is_refused(tmp_path, network):
    path = saved(network, tmp_path / "vae.pt", lambda t: {**t, "decoder.14.bias": torch.full((1,), float("nan"))})
    with pytest.raises(CheckpointError, match="not finite"):
        open_decoder(path).decode(np.zeros((10, 10), int))


def test_codebooks_are_read_without_torch():
    code = "import sys; import molmoact2_model.depth; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
