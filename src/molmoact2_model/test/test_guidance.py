# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking: the formulas of the paper, and what they do to the chunks of the real engine."""

import itertools
import math

import numpy as np
import pytest
import torch
from golden_set import textured

from molmoact2_model import InputError
from molmoact2_model.flow import sample_flow
from molmoact2_model.guidance import Guidance, Running, guidance_factor, guidance_weights, make_guidance
from molmoact2_model.optimizations import SHARED

CPU = torch.device("cpu")


@pytest.fixture
def session(policy):
    return policy.session(norm_tag="tiny_arm")


@pytest.fixture
def field(policy):
    """The golden expert's velocity of a chunk at flow time 0.3, in double precision, after one real call."""
    session = policy.session(norm_tag="tiny_arm", optimizations=SHARED)
    engine = session._engine
    infer(session)
    expert = engine.network.expert
    doubled = type(expert)(expert.config, expert.context_k_proj.in_features, expert.action_embed.in_features)
    doubled.load_state_dict(expert.state_dict())
    doubled.double().requires_grad_(False)
    layers = [(keys.double(), values.double()) for keys, values in engine.context().layers]
    with torch.no_grad():
        modulations = doubled.modulations(torch.tensor([0.3], dtype=torch.float64))
    context = type(engine.context())(layers, engine.context().mask.double())
    rope = tuple(table.double() for table in expert.rope(30))
    return lambda chunk: doubled(chunk, context, modulations, rope)


def infer(session, seed=0, **options):
    return session.infer([textured(1)], np.zeros(7, np.float32), "pick up the red cube", seed=seed, **options)


def test_weights_are_one_while_frozen_fall_to_the_running_chunks_end_and_are_nothing_after():
    weights = guidance_weights(horizon=10, known=7, frozen=3, overlap=7)
    shares = [(7 - i) / 5 for i in (3, 4, 5, 6)]
    falling = [c * (math.exp(c) - 1) / (math.e - 1) for c in shares]
    assert weights == pytest.approx([1, 1, 1, *falling, 0, 0, 0])
    assert (np.diff(weights) <= 0).all()


def test_between_two_waypoints_weights_fall_by_whole_ones_and_are_nothing_where_the_running_chunk_ends():
    weights = guidance_weights(horizon=10, known=6, frozen=3, overlap=7)
    assert weights[:6] == pytest.approx(guidance_weights(10, 7, 3, 7)[:6])
    assert (weights[6:] == 0).all()


def test_weights_stay_between_nothing_and_one_for_every_split():
    for known, over in itertools.product(range(1, 31), (0, 1)):
        for frozen in range(known + 1):
            weights = guidance_weights(30, known, frozen, known + over)
            assert ((weights >= 0) & (weights <= 1)).all()
            assert (weights[:frozen] == 1).all()
            assert (weights[known:] == 0).all()


@pytest.mark.parametrize("time", [0.05, 0.3, 0.5, 0.9])
def test_the_factor_is_that_of_the_paper(time):
    spread = (1 - time) ** 2 / (time**2 + (1 - time) ** 2)
    assert guidance_factor(time, 1e9) == pytest.approx((1 - time) / (time * spread))
    assert guidance_factor(time, 5.0) == min(5.0, guidance_factor(time, 1e9))


def test_at_the_start_of_the_flow_the_factor_is_beta():
    assert guidance_factor(0.0, 7.5) == 7.5


def test_the_pull_is_the_gradient_of_the_predicted_chunk_through_the_expert(field):
    """Against central differences of the weighted error's product with the predicted chunk."""
    generator = torch.Generator().manual_seed(3)
    chunk, target = (torch.randn((1, 30, 32), generator=generator, dtype=torch.float64) for _ in range(2))
    weights = torch.from_numpy(guidance_weights(30, 20, 5, 20)).double()[:, None].expand(30, 32)
    time, beta = 0.3, 5.0
    guidance = Guidance("gradient", target[0], weights, weights > 2, beta)
    velocity = field(chunk)
    pull = (guidance.velocity(field, chunk, time) - velocity) / guidance_factor(time, beta)
    error = weights * (target[0] - (chunk + (1 - time) * velocity))

    def product(noisy):
        return float((error * (noisy + (1 - time) * field(noisy))).sum())

    step = 1e-5
    for row, column in [(0, 0), (4, 3), (5, 6), (12, 1), (19, 31), (25, 2)]:
        nudge = torch.zeros_like(chunk)
        nudge[0, row, column] = step
        difference = (product(chunk + nudge) - product(chunk - nudge)) / (2 * step)
        assert float(pull[0, row, column]) == pytest.approx(difference, rel=1e-6, abs=1e-8)
    # A gradient that stopped before the expert would be the error itself.
    assert float((pull - error).abs().max()) > 1e-3


@pytest.mark.parametrize("rtc", ["gradient", "replace"])
def test_a_chunk_continues_the_running_one_where_it_is_frozen(policy, rtc):
    session = policy.session(norm_tag="tiny_arm", rtc=rtc)
    running = infer(session, seed=1).actions[8:]
    free = infer(session, seed=2).actions
    continued = infer(session, seed=2, prefix=running, frozen=6).actions
    apart, near = (np.abs(chunk[:6] - running[:6]).mean() for chunk in (free, continued))
    assert near < 0.5 * apart


def test_replaced_waypoints_are_exactly_the_running_ones(policy):
    session = policy.session(norm_tag="tiny_arm", rtc="replace")
    running = infer(session, seed=1).actions[8:]
    continued = infer(session, seed=2, prefix=running, frozen=6).actions
    np.testing.assert_allclose(continued[:6], running[:6], atol=1e-5)


def test_guidance_of_no_strength_changes_nothing(policy):
    session = policy.session(norm_tag="tiny_arm", rtc_beta=0.0)
    running = infer(session, seed=1).actions
    np.testing.assert_allclose(infer(session, prefix=running).actions, infer(session).actions, atol=1e-6)


def test_a_running_chunk_longer_than_the_horizon_is_cut(session):
    running = infer(session, seed=1).actions
    longer = np.concatenate([running, running])
    np.testing.assert_array_equal(
        infer(session, prefix=longer, frozen=3).actions, infer(session, prefix=running, frozen=3).actions
    )


def test_padded_dimensions_stay_at_zero_through_the_whole_guided_flow(session):
    """The expert reads the padding too, so that a gradient would lead into it."""
    engine = session._engine
    infer(session)
    valid = torch.arange(32) < 7
    guidance = make_guidance("gradient", Running(np.ones((20, 7), np.float32), 6, 20), 0, (30, 32), 5.0, CPU)
    noise = torch.randn((1, 30, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        chunk = sample_flow(
            engine.expert, engine.context(), noise, engine._flow.modulations(4), valid, guidance
        )
    assert float(chunk[..., 7:].abs().max()) == 0.0
    assert float(chunk[..., :7].abs().max()) > 0.0


def test_rows_before_the_observation_are_neither_guided_nor_frozen():
    guidance = make_guidance("replace", Running(np.ones((4, 7), np.float32), 2, 4), 1, (30, 32), 5.0, CPU)
    assert float(guidance.weights[0].abs().max()) == 0.0
    assert guidance.frozen[:4, 0].tolist() == [False, True, True, False]
    assert guidance.target[1, 0] == 1.0 and guidance.target[5, 0] == 0.0


def test_without_guidance_the_flow_is_untouched(session):
    engine = session._engine
    infer(session)
    noise = torch.randn((1, 30, 32), generator=torch.Generator().manual_seed(5))
    modulations = engine._flow.modulations(4)
    with torch.no_grad():
        plain = sample_flow(engine.expert, engine.context(), noise, modulations, None)
        inert = Guidance("gradient", torch.zeros(30, 32), torch.zeros(30, 32), torch.zeros(30, 1).bool(), 5.0)
        guided = sample_flow(engine.expert, engine.context(), noise, modulations, None, inert)
    torch.testing.assert_close(plain, guided)


def test_discrete_actions_say_that_they_cannot_continue_a_chunk(policy, golden):
    name = next(name for name, case in golden.cases.items() if case["action_mode"] == "discrete")
    prefix = np.zeros((5, golden.value(name, "actions").shape[1]))
    result = golden.session(policy, name).infer(**golden.inputs(name), prefix=prefix, frozen=2)
    assert "discrete actions cannot continue the running chunk" in result.trace.warnings[-1]
    np.testing.assert_array_equal(result.actions, golden.run(policy, name).actions)


@pytest.mark.parametrize(("options", "named"), [({"rtc": "magic"}, "rtc is 'magic'"), ({"rtc_beta": -1.0}, "rtc_beta")])
def test_a_rule_that_does_not_exist_is_refused(policy, options, named):
    with pytest.raises(InputError, match=named):
        policy.session(norm_tag="tiny_arm", **options)
