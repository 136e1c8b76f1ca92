# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""OpenFAST: chunks survive the round trip, and tokens that spell no chunk are an error, never zeros."""

import json
import shutil

import numpy as np
import pytest
from golden_set import compare
from scipy.fft import dct

from molmoact2_model import CheckpointError, FastTokenizer, ModelError
from molmoact2_model.fast import action_bins


@pytest.fixture(scope="module")
def fast(golden):
    return FastTokenizer.from_folder(golden.fast_tokenizer)


def smooth(horizon, dims, seed):
    generator = np.random.default_rng(seed)
    steps = np.linspace(0, 1, horizon)[:, None]
    start, end = generator.uniform(-0.6, 0.6, (2, dims))
    return start + (end - start) * steps**2


@pytest.mark.parametrize(("horizon", "dims"), [(4, 3), (30, 7), (15, 14), (1, 1)])
def test_a_chunk_survives_the_round_trip(fast, horizon, dims):
    for seed in range(5):
        chunk = smooth(horizon, dims, seed)
        decoded = fast.decode(fast.encode(chunk), horizon, dims)
        assert decoded.shape == chunk.shape
        assert decoded.dtype == np.float32
        # Rounding moves each coefficient by at most half a step; the transform keeps lengths.
        worst = np.abs(dct(chunk - decoded, axis=0, norm="ortho")).max()
        assert worst <= 0.5 / fast.scale + 1e-6


def test_decoding_the_golden_tokens_gives_the_golden_actions(golden, policy):
    result = golden.run(policy, "discrete")
    np.testing.assert_array_equal(
        result.trace.generated_token_ids, golden.value("discrete", "generated_token_ids")
    )
    np.testing.assert_allclose(result.actions, golden.value("discrete", "actions"), atol=1e-6)
    assert np.ptp(result.actions) > 0
    assert result.trace.seed is None
    assert result.trace.decoder_steps == len(result.trace.generated_token_ids) - 1


def test_depth_codes_precede_discrete_actions(golden, policy):
    plain = golden.run(policy, "discrete")
    result = golden.session(policy, "discrete", depth="full").infer(**golden.inputs("discrete"))
    depth, actions = policy.config.depth, policy.config.action_tokens
    generated = result.trace.generated_token_ids.tolist()
    assert generated[0] == depth.start
    assert generated[101:103] == [depth.end, actions.start]
    assert generated[-2:] == [actions.end, policy.config.eos_token_id]
    assert result.trace.input_ids[-1] == depth.end
    assert result.actions.shape == plain.actions.shape
    assert set(result.trace.timings) >= {"depth", "discrete"}


def test_too_few_coefficients_are_an_error(fast):
    tokens = fast.encode(smooth(4, 3, 0))
    with pytest.raises(ModelError, match="spell 12 coefficients, a chunk of 5 steps and 3 dimensions has 15"):
        fast.decode(tokens, 5, 3)


@pytest.mark.parametrize("token", [-1, 10_000])
def test_tokens_outside_the_vocabulary_are_an_error(fast, token):
    with pytest.raises(ModelError, match="outside the tokenizer's"):
        fast.decode([*fast.encode(smooth(4, 3, 0)), token], 4, 3)


def test_a_chunk_that_cannot_be_spelled_is_an_error(fast):
    with pytest.raises(ModelError, match="cannot express"):
        fast.encode(np.full((30, 2), 1e3))
    with pytest.raises(ModelError, match="finite"):
        fast.encode(np.full((4, 3), np.nan))


@pytest.mark.parametrize(
    ("ids", "bins"),
    [
        ([7, 100, 11, 3, 12, 101, 13], [1, 2]),
        ([11, 12, 101, 13], [1, 2, 3]),
        ([100, 11, 12], [1, 2]),
        ([11, 101, 100, 12, 101, 13], [2]),
        ([100, 101, 12], []),
        ([5, 6], []),
    ],
)
def test_bins_lie_between_the_first_start_and_the_next_end(ids, bins):
    assert action_bins(ids, start=100, end=101, first=10, count=5) == bins


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 0}, "scale is 0"),
        ({"scale": "ten"}, "scale is 'ten'"),
        ({"min_token": 1.5}, "min_token is 1.5"),
        ({"vocab_size": 100}, "312 tokens, processor_config.json allows 100"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(golden, tmp_path, values, message):
    folder = shutil.copytree(golden.fast_tokenizer, tmp_path / "fast")
    config = folder / "processor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    with pytest.raises(CheckpointError, match=message):
        FastTokenizer.from_folder(folder)


def test_a_folder_that_is_no_fast_tokenizer_is_refused(policy, tmp_path):
    with pytest.raises(CheckpointError, match="not a folder"):
        policy.session(norm_tag="tiny_fast", action_mode="discrete", fast_tokenizer=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"processor_config.json is missing"):
        policy.session(norm_tag="tiny_fast", action_mode="discrete", fast_tokenizer=tmp_path)


def test_discrete_calls_draw_no_noise(golden, policy):
    result = golden.session(policy, "discrete").infer(**(golden.inputs("discrete") | {"seed": 1}))
    compare(golden, "discrete", result)
    assert result.trace.seed is None
