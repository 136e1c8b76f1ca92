# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images are coded by a network of the published layout as the network itself would."""

import json

import numpy as np
import pytest
import torch
from depth_sets import DEPTH, depth_of, depth_set
from vqvae_network import VqVae, saved

from molmoact2_contract import cli
from molmoact2_model.depth import open_decoder
from molmoact2_model.depth_vqvae import VqVaeEncoder, relative_image
from molmoact2_model.errors import CheckpointError
from molmoact2_model.training.depth_store import DepthCodes


@pytest.fixture(scope="module")
def network():
    """Its entries are vectors that the encoder gives, so that the images below are coded with many of them."""
    torch.manual_seed(0)
    network = VqVae().eval()
    with torch.no_grad():
        for layer in network.encoder:
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.mul_(3)
        vectors = network.encoder(torch.rand(1, 1, 320, 320) * 2 - 1)[0].flatten(1).T
        network.codebook.weight.copy_(vectors[:: len(vectors) // 12][:12])
    return network


def published(tensors):
    """Names and nesting of the published file."""
    tensors["_vq_vae._embedding"] = tensors.pop("codebook.weight")
    tensors["_vq_vae._ema_w"] = tensors.pop("embed_avg").T.contiguous()
    tensors["_vq_vae._ema_cluster_size"] = torch.zeros(12)
    return {"weights": {f"module.{name}": tensor for name, tensor in tensors.items()}}


def images():
    rng = np.random.default_rng(2)
    yield depth_of(0, 3)
    yield rng.integers(300, 900, (48, 64)).astype(np.uint16)


def test_codes_are_those_of_the_nearest_entries_to_what_the_encoder_gives(tmp_path, network):
    encoder = VqVaeEncoder(saved(network, tmp_path / "vae-final.pt", published))
    assert encoder.codes == 12
    several = set()
    for depth in images():
        x = torch.from_numpy((relative_image(depth, 320) / 255.0 - 0.5) / 0.5)[None, None]
        with torch.inference_mode():
            vectors = network.encoder(x)[0].permute(1, 2, 0).reshape(100, -1)
            wanted = torch.cdist(vectors, network.codebook.weight).argmin(dim=1)
        codes = encoder.encode(depth, 10)
        assert codes.dtype == np.int16
        assert codes.tolist() == wanted.tolist()
        several |= set(codes.tolist())
    assert len(several) > 3


def test_the_decoder_reads_the_published_names(tmp_path, network):
    codes = np.arange(12).reshape(3, 4)
    paths = saved(network, tmp_path / "a.pt"), saved(network, tmp_path / "vae-final.pt", published)
    plain, as_published = (open_decoder(path).decode(codes).values for path in paths)
    np.testing.assert_array_equal(as_published, plain)


def test_a_distance_becomes_relative_depth_near_is_large_and_only_order_and_proportion_of_inverses_stay():
    depth = np.array([[500, 1000], [2000, 500]], np.uint16)
    assert relative_image(depth, 2).tolist() == [[255, 85], [0, 255]]
    np.testing.assert_array_equal(relative_image(depth * 3, 2), relative_image(depth, 2))


def test_what_was_not_measured_takes_the_nearest_measured_pixel():
    depth = np.array([[500, 0, 0, 0, 0, 2000]], np.uint16)
    assert relative_image(depth, 6)[0].tolist() == [255, 255, 255, 0, 0, 0]


def test_an_image_is_brought_to_the_network_s_square_by_the_nearest_pixel():
    depth = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
    image = relative_image(depth, 12)
    np.testing.assert_array_equal(image, image[::4, ::3].repeat(4, 0).repeat(3, 1))


def test_without_any_measurement_there_are_no_codes(tmp_path, network):
    encoder = VqVaeEncoder(saved(network, tmp_path / "vae.pt"))
    assert encoder.encode(np.zeros(DEPTH, np.uint16), 10) is None


def test_an_image_of_one_distance_has_codes(tmp_path, network):
    encoder = VqVaeEncoder(saved(network, tmp_path / "vae.pt"))
    assert encoder.encode(np.full(DEPTH, 700, np.uint16), 10).shape == (100,)


def without(*names):
    return lambda tensors: {name: t for name, t in tensors.items() if not name.startswith(names)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("encoder"), "no tensor is named encoder"),
        (without("encoder.0."), "encoder.2 has shape .* expected the convolution from the image"),
        (without("encoder.12."), "the encoder ends where the convolution to the codebook was expected"),
        (without("encoder.11.net.2."), "encoder.11.net.4 has shape .* expected a convolution of a residual block"),
        (lambda t: {**t, "encoder.13.weight": torch.zeros(1, 1, 1, 1)}, "goes on where it should end: encoder.13"),
        (without("codebook"), "expected one codebook"),
    ],
)
def test_a_network_of_another_layout_cannot_code(tmp_path, network, change, named):
    with pytest.raises(CheckpointError, match=named):
        VqVaeEncoder(saved(network, tmp_path / "vae.pt", change))


def test_a_network_that_gives_no_numbers_is_refused(tmp_path, network):
    bias = {"encoder.12.bias": torch.full((24,), float("nan"))}
    encoder = VqVaeEncoder(saved(network, tmp_path / "vae.pt", lambda tensors: {**tensors, **bias}))
    with pytest.raises(CheckpointError, match="not finite"):
        encoder.encode(depth_of(0, 0), 10)


def test_a_data_set_is_annotated_with_a_network_and_says_which(tmp_path, network, capsys):
    data = depth_set(tmp_path / "data", (3,))
    file = saved(network, tmp_path / "vae-final.pt", published)
    assert cli.main(["depth", "annotate", str(data), "--vqvae", str(file)]) == 0
    store = DepthCodes(data)
    assert store.codebook() is None
    assert store.about["network"]["file"] == "vae-final.pt" and store.about["network"]["codes"] == 12
    wanted = VqVaeEncoder(file).encode(depth_of(0, 1), 10)
    assert store.of_episode(0)[1].tolist() == wanted.tolist()
    for options in ([], ["--vqvae", str(file)]):
        out = tmp_path / f"{len(options)}.png"
        show = ["depth", "show", str(data), "--episode", "0", "--frame", "1", "-o", str(out), *options]
        assert cli.main(show) == 0
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "2.png").read_bytes()
    assert "codebook" not in json.loads((data / "meta/depth_codes.json").read_text())
