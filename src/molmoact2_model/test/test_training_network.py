# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Training runs the same network as the engine, and minimises what it says."""

import dataclasses

import numpy as np
import pytest
import torch
from golden_set import GOLDEN
from torch.nn import functional

from molmoact2_model import MolmoAct2Policy
from molmoact2_model.blueprint import Blueprint, write_checkpoint
from molmoact2_model.config import FlowConfig
from molmoact2_model.engine import Engine
from molmoact2_model.processing import PromptBuilder, pixel_values
from molmoact2_model.training.batch import CODES, IGNORED, PLACE, TEXT, Look, Sequence, collate
from molmoact2_model.training.network import Objective, TrainingModel
from molmoact2_model.training.objectives import cross_entropy, draw_flow, flow_loss, flow_times, look_loss
from molmoact2_model.visibility import visible_to_expert


def sequence_of(policy, tag, instruction: str, state: np.ndarray, images: int, more: list[int]) -> Sequence:
    prompts = PromptBuilder(policy.config, policy.images, policy.tokenizer, tag)
    prompt = prompts.build(instruction, state, images, bool(more))
    ids = np.concatenate([prompt.ids, more]).astype(np.int64)
    is_image = np.concatenate([prompt.is_image, np.zeros(len(more), bool)])
    nothing = np.full(len(ids), IGNORED)
    chunk = np.zeros((tag.horizon, tag.action.dim), np.float32)
    sees = visible_to_expert(ids, policy.config)
    return Sequence(ids, is_image, nothing, nothing * 0, sees, chunk, np.ones(tag.horizon, bool))


def batch_of(policy, tag, frames, sequences):
    pixels = torch.stack([pixel_values(images, policy.images, torch.device("cpu")) for images in frames])
    config = policy.config
    return collate(
        pixels, sequences, tag.horizon, tag.action.dim, config.max_action_dim, config.image_tokens.patch,
        policy.images.token_grid,
    )  # fmt: skip


def depth_ids(policy, codes: np.ndarray) -> list[int]:
    depth = policy.config.depth
    return [depth.start, *(codes + depth.first).tolist(), depth.end]


@pytest.mark.parametrize("gate", ["none", "single", "per_layer"])
def test_a_batch_is_read_as_the_engine_reads_each_of_its_sequences(tmp_path, gate):
    """Two frames, three instructions of other lengths, one with depth codes: keys, values and velocities."""
    stats = {"min": [-1.0] * 3, "max": [1.0] * 3, "q01": [-1.0] * 3, "q99": [1.0] * 3}
    tag = {"state_stats": stats, "action_stats": stats, "action_horizon": 5, "n_action_steps": 5}
    norm_stats = {"norm_mode": "min_max", "metadata_by_tag": {"toy": tag}}
    write_checkpoint(tmp_path / "toy", Blueprint(depth_gate=gate, image_size=(56, 56)), norm_stats, seed=3)
    policy = MolmoAct2Policy.from_pretrained(tmp_path / "toy")
    tag = policy.stats.tag("toy")
    random = np.random.default_rng(0)
    frames = [[random.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(2)] for _ in range(2)]
    codes = depth_ids(policy, random.integers(0, 128, 100))
    asked = [(0, "go", []), (0, "go to the left", codes), (1, "come back again", [])]
    state = np.array([0.1, -0.4, 0.9], np.float32)
    sequences = [
        [sequence_of(policy, tag, words, state, 2, more) for at, words, more in asked if at == frame]
        for frame in (0, 1)
    ]
    model = TrainingModel(policy.network, policy.images, Objective(flow_draws=1))
    batch = batch_of(policy, tag, frames, sequences)
    with torch.no_grad():
        _, key_values = model.read(batch)
    for row, (frame, _, _) in enumerate(asked):
        sequence = [s for those in sequences for s in those][row]
        engine = Engine(policy.network, policy.images)
        prompt = PromptBuilder(policy.config, policy.images, policy.tokenizer, tag)
        built = prompt.build(asked[row][1], state, 2, bool(asked[row][2]))
        engine.see(frames[frame])
        engine.prefill(built, 200)
        if asked[row][2]:
            engine._next(torch.tensor(asked[row][2]))
            engine._read()
            engine._ids += asked[row][2]
        length = len(sequence.ids)
        for (keys, values), (theirs, others) in zip(key_values, engine._cache.states(), strict=True):
            torch.testing.assert_close(keys[row, :, :length], theirs[0], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(values[row, :, :length], others[0], atol=2e-5, rtol=1e-4)
        _compare_flow(model, batch, key_values, row, engine)


def _compare_flow(model, batch, key_values, row: int, engine: Engine) -> None:
    """The flow loss of one sequence, by hand with the engine's context."""
    alone = dataclasses.replace(
        batch, action_is_real=batch.action_is_real & (torch.arange(batch.size) == row)[:, None]
    )
    with torch.no_grad():
        loss = model._flow(alone, key_values, torch.Generator().manual_seed(4))
        generator = torch.Generator().manual_seed(4)
        draw = draw_flow(batch.actions[row : row + 1], batch.dim_is_real, model.config.flow, generator)
        expert = model.expert
        velocity = expert(draw.noisy, engine.context(), expert.modulations(draw.time), expert.rope(draw.noisy.shape[1]))
    real = batch.dim_is_real.expand(velocity.shape)
    torch.testing.assert_close(loss, flow_loss(velocity, draw.velocity, real), atol=1e-5, rtol=1e-4)


def test_flow_times_lie_where_the_release_draws_them():
    flow = FlowConfig(num_steps=10, cutoff=1.0, time_offset=0.001, time_scale=0.999, beta_alpha=1.0, beta_beta=1.5)
    times = flow_times(20000, flow, torch.Generator().manual_seed(0))
    assert times.min() >= 0.001 and times.max() <= 1.0
    assert abs(float(times.mean()) - (0.001 + 0.999 * 0.4)) < 0.005    # Beta(1, 1.5) has the mean 0.4
    assert times.equal(flow_times(20000, flow, torch.Generator().manual_seed(0)))


def test_a_draw_leads_from_noise_to_the_data_and_leaves_padding_at_zero():
    flow = FlowConfig(num_steps=10, cutoff=1.0, time_offset=0.001, time_scale=0.999, beta_alpha=1.0, beta_beta=1.5)
    actions = torch.rand((6, 4, 5)) * torch.tensor([1.0, 1, 1, 0, 0])
    draw = draw_flow(actions, torch.tensor([True, True, True, False, False]), flow, torch.Generator().manual_seed(1))
    arrived = draw.noisy + (1 - draw.time)[:, None, None] * draw.velocity
    torch.testing.assert_close(arrived, actions)
    assert not draw.noisy[..., 3:].any() and not draw.velocity[..., 3:].any()


def test_the_flow_loss_counts_only_what_is_real():
    wanted, said = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 100.0], [100.0, 100.0]]])
    real = torch.tensor([[[True, False], [False, False]]])
    assert float(flow_loss(said, wanted, real)) == 1.0
    assert float(flow_loss(said, wanted, torch.zeros_like(real))) == 0.0


def test_each_kind_of_target_has_a_mean_of_its_own():
    logits, targets = torch.randn(6, 11), torch.tensor([1, 2, 3, 4, 5, 6])
    kinds = torch.tensor([TEXT, TEXT, CODES, CODES, CODES, CODES])
    found = cross_entropy(logits, targets, kinds, 0.0, 0.0)
    torch.testing.assert_close(found.losses[TEXT], functional.cross_entropy(logits[:2], targets[:2]))
    torch.testing.assert_close(found.losses[CODES], functional.cross_entropy(logits[2:], targets[2:]))
    assert found.losses[PLACE] == 0 and bool(found.right[PLACE].isnan())
    with_z = cross_entropy(logits, targets, kinds, 1e-2, 0.0)
    more = 1e-2 * logits[:2].logsumexp(-1).square().mean()
    torch.testing.assert_close(with_z.losses[TEXT] - found.losses[TEXT], more)


def test_a_near_miss_of_a_place_costs_less_than_a_far_one():
    def loss(at: int) -> float:
        logits = torch.full((1, 41), -5.0)
        logits[0, at] = 5.0
        return float(cross_entropy(logits, torch.tensor([20]), torch.tensor([PLACE]), 0.0, 2.0).losses[PLACE])

    assert loss(20) < loss(21) < loss(24) <= loss(40)


def test_looking_at_the_place_costs_least_there():
    at = torch.tensor([[0.0, 0.5, 0.5, 0.0]])
    there, elsewhere = (torch.tensor([row]).log() for row in ([0.01, 0.49, 0.49, 0.01], [0.49, 0.01, 0.01, 0.49]))
    assert look_loss(there, at) < look_loss(elsewhere, at)


@pytest.mark.parametrize("image", [0, 1])
def test_each_image_has_a_head_of_its_own_that_is_shown_where_to_look(image):
    policy = MolmoAct2Policy.from_pretrained(GOLDEN / "checkpoint")
    tag = policy.stats.tag("tiny_arm")
    model = TrainingModel(policy.network, policy.images, Objective(flow=0, look=1.0, look_layer=1))
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    sequence = sequence_of(policy, tag, "go", np.zeros(tag.state.dim, np.float32), 2, [])
    places = tuple((0.5, 0.5) if index == image else None for index in range(2))
    sequence = dataclasses.replace(sequence, look=Look(sequence.prefix + 4, places))
    losses = model(batch_of(policy, tag, [[picture, picture]], [[sequence]]), torch.Generator().manual_seed(0))
    losses.total.backward()
    queries = model.vlm.model.language_model.layers[1].self_attn.q_proj.weight.grad
    moved = queries.unflatten(0, (policy.config.text.num_heads, -1)).abs().amax((1, 2)) > 0
    assert torch.nonzero(moved)[:, 0].tolist() == [image] and losses.parts["look"] > 0


def test_the_gradient_ends_at_the_cache_where_the_recipe_says_so():
    policy = MolmoAct2Policy.from_pretrained(GOLDEN / "checkpoint")
    tag = policy.stats.tag("tiny_arm")
    state = np.zeros(tag.state.dim, np.float32)
    images = [[np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)]]
    for detach in (False, True):
        model = TrainingModel(policy.network, policy.images, Objective(flow_draws=1, detach=detach))
        for parameter in model.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        batch = batch_of(policy, tag, images, [[sequence_of(policy, tag, "go", state, 1, [])]])
        model(batch, torch.Generator().manual_seed(0)).total.backward()
        touched = [name for name, parameter in model.vlm.named_parameters() if parameter.grad is not None]
        assert (touched == []) is detach
    policy.network.vlm.requires_grad_(False)
    policy.network.expert.requires_grad_(False)
