# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other widths, cameras, joints, grids and statistics: every size comes from the files."""

import numpy as np
import pytest
import torch
from golden_set import textured
from safetensors.torch import load_file

from molmoact2_model import InputError, MolmoAct2Policy
from molmoact2_model.blueprint import Blueprint, make_tokenizer, write_checkpoint
from molmoact2_model.checkpoint import save_weights
from molmoact2_model.engine import Engine
from molmoact2_model.processing import pixel_values, pooling_index

JOINTS = 14
HORIZON = 15
MASK = [index not in (6, 13) for index in range(JOINTS)]
TWO_ARMS = Blueprint(
    hidden_size=80,
    num_heads=5,
    num_kv_heads=1,
    num_layers=2,
    vit_layers=4,
    vit_feature_layers=(1, -1),
    expert_hidden_size=64,
    expert_heads=2,
    num_depth_codes=16,
    num_depth_tokens=32,
    num_state_tokens=64,
    pooling_size=(3, 2),
    image_size=(84, 140),
    image_col_tokens=True,
    max_action_dim=20,
    max_action_horizon=20,
    flow_steps=4,
    depth_gate="single",
)
VARIANTS = {
    "two_arms": (TWO_ARMS, "mean_std"),
    "gate_per_layer": (Blueprint(depth_gate="per_layer", num_depth_codes=25), "q10_q90"),
    "continuous_only": (Blueprint(action_mode="continuous", expert_time_dim=33), "min_max"),
    "other_colours": (Blueprint(image_mean=(0.48, 0.45, 0.40), image_std=(0.26, 0.26, 0.27)), "none"),
}


def norm_stats(mode):
    generator = np.random.default_rng(5)
    low, high = -generator.uniform(0.5, 3.0, JOINTS), generator.uniform(0.5, 3.0, JOINTS)
    stats = {
        "min": low - 0.5,
        "max": high + 0.5,
        "q01": low,
        "q99": high,
        "q10": low * 0.8,
        "q90": high * 0.8,
    }
    stats |= {"mean": (low + high) / 2, "std": (high - low) / 4}
    entry = {key: value.tolist() for key, value in stats.items()} | {"mask": MASK}
    tag = {
        "camera_keys": ["top", "left", "right"],
        "action_horizon": HORIZON,
        "n_action_steps": 12,
        "setup_type": "two arms",
        "control_mode": "absolute joint pose",
        "state_stats": entry,
        "action_stats": entry,
    }
    return {"format": "molmoact2_norm_stats.v1", "norm_mode": mode, "metadata_by_tag": {"two_arms": tag}}


@pytest.fixture(scope="module", params=VARIANTS)
def other(request, tmp_path_factory):
    blueprint, mode = VARIANTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(folder, blueprint, norm_stats(mode), seed=11)
    return MolmoAct2Policy.from_pretrained(folder)


@pytest.fixture
def frames():
    return [textured(1, size=(96, 160)), textured(2, size=(80, 80)), textured(3, size=(64, 96))]


STATE = np.linspace(-1, 1, JOINTS).astype(np.float32)


def ask(session, frames, **options):
    return session.infer(frames, STATE, "fold the towel", **{"seed": 2, **options})


def test_a_chunk_has_the_tags_shape(other, frames):
    result = ask(other.session(norm_tag="two_arms"), frames)
    assert result.actions.shape == (12, JOINTS)
    assert result.trace.warnings == ()
    assert ask(other.session(norm_tag="two_arms"), frames, n_action_steps=15).actions.shape == (15, JOINTS)


def test_the_trace_has_one_entry_per_cell(other, frames):
    trace = ask(other.session(norm_tag="two_arms", depth="full"), frames).trace
    cells = other.config.depth.num_codes
    for values in (trace.depth_codes, trace.refreshed, trace.cell_ages, trace.code_probs):
        assert values.shape == (cells,)
    assert trace.decoder_steps == cells + 2
    assert trace.depth_codes.max() < other.config.depth.codebook_size


def test_an_adaptive_call_that_refreshes_all_cells_equals_a_full_one(other, frames):
    adaptive = other.session(norm_tag="two_arms", depth="adaptive", cache_policy="reference")
    ask(adaptive, [textured(9, size=(96, 160)), *frames[1:]])
    result = ask(adaptive, frames)
    full = ask(other.session(norm_tag="two_arms", depth="full"), frames)
    assert result.trace.depth_mode == "adaptive"
    assert result.trace.refreshed.all()
    np.testing.assert_array_equal(result.trace.depth_codes, full.trace.depth_codes)
    np.testing.assert_array_equal(result.actions, full.actions)


def test_replayed_codes_condition_the_actions_like_generated_ones(other, frames):
    """The codes of an unchanged scene, replayed in one forward, leave the same cache behind as one by one."""
    adaptive = other.session(norm_tag="two_arms", depth="adaptive")
    first = ask(adaptive, frames)
    second = ask(adaptive, frames)
    assert second.trace.reused_runs == 1
    assert second.trace.decoder_steps == 3
    span = np.ptp(first.actions)
    assert np.abs(first.actions - second.actions).max() < 1e-4 * max(span, 1.0)


def test_the_engine_equals_transformers_own_forward_and_growing_cache(other, frames):
    """Prefill and decoding over our preallocated cache, against Molmo2's own masks, vision path and DynamicCache."""
    engine = Engine(other.network, other.images)
    session = other.session(norm_tag="two_arms", depth="full")
    prompt = session._prompts.build("fold the towel", STATE, len(frames), True)
    engine.see(frames)
    engine.prefill(prompt, engine.room(True, 0))
    outcome = engine.depth(np.ones(other.config.depth.num_codes, bool), None)

    ids = torch.from_numpy(prompt.ids)[None]
    grid = torch.tensor([[*other.images.token_grid, 0, 0]] * len(frames))
    with torch.no_grad():
        output = other.network.vlm(
            input_ids=ids,
            pixel_values=pixel_values(frames, other.images, torch.device("cpu")),
            image_token_pooling=pooling_index(other.images, len(frames)),
            image_grids=grid,
            mm_token_type_ids=torch.from_numpy(prompt.is_image.astype(np.int64))[None],
            use_cache=True,
        )
        cache = output.past_key_values
        for token in outcome.token_ids:
            other.network.vlm(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
    for layer, (keys, values) in zip(cache.layers, engine._cache.states(), strict=True):
        torch.testing.assert_close(keys, layer.keys, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(values, layer.values, atol=2e-5, rtol=1e-4)


def test_saving_what_was_loaded_gives_the_same_file_for_everyone_to_read(other, tmp_path):
    save_weights(other.network, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    wanted, found = load_file(f"{other.name}/model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def test_a_grid_that_is_no_square_can_be_full_but_not_adaptive(tmp_path, frames):
    write_checkpoint(tmp_path, Blueprint(num_depth_codes=12), norm_stats("q01_q99"), seed=1)
    policy = MolmoAct2Policy.from_pretrained(tmp_path)
    assert ask(policy.session(norm_tag="two_arms", depth="full"), frames).trace.depth_codes.size == 12
    with pytest.raises(InputError, match="square grid"):
        policy.session(norm_tag="two_arms", depth="adaptive")


def test_the_scene_decides_the_codes(tmp_path, frames):
    write_checkpoint(tmp_path, Blueprint(), norm_stats("q01_q99"), seed=1)
    session = MolmoAct2Policy.from_pretrained(tmp_path).session(norm_tag="two_arms", depth="full")
    codes = ask(session, frames).trace.depth_codes
    others = ask(session, [255 - frames[0], *frames[1:]]).trace.depth_codes
    assert (codes != others).any()


def test_a_phrase_is_one_token_and_the_text_stays_as_it_was():
    texts = ("The task is to touch the red cube. The setup is here", "touch the task is to")
    plain, short = (
        make_tokenizer(Blueprint(phrases=phrases))[0] for phrases in ((), ("The task is to ", ". The setup is "))
    )
    for text in texts:
        assert plain.decode(plain.encode(text).ids) == short.decode(short.encode(text).ids) == text
    spared = len(plain.encode(texts[0]).ids) - len(short.encode(texts[0]).ids)
    assert spared == len("The task is to . The setup is ") - 2
    assert plain.encode(texts[1]).ids == short.encode(texts[1]).ids
