# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A session over many calls: its depth cache, what it reuses, its noise, and what a failed call leaves behind."""

import threading

import numpy as np
import pytest
import torch
from golden_set import textured

from molmoact2_model import InputError, ModelError, MolmoAct2Policy

STATE = np.array([0.1, -0.2, 0.3, 0.0, -0.5, 1.0, 0.4], np.float32)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def adaptive(policy, clock):
    return policy.session(norm_tag="tiny_arm", depth="adaptive", clock=clock)


def ask(session, images, instruction="pick up the cube", **options):
    return session.infer(images, STATE, instruction, **{"seed": 1, "num_steps": 1, **options})


@pytest.fixture
def images(scene):
    return [scene, textured(7)]


def with_patch(image, value=0):
    changed = image.copy()
    changed[100:240, 100:300] = value
    return changed


class Frame(np.ndarray):
    """A frame that counts how often it is copied."""

    copies = 0

    def copy(self, order="C"):
        Frame.copies += 1
        return np.array(self, order=order)


@pytest.mark.parametrize("depth", ["off", "full", "adaptive", "verified"])
def test_a_frame_is_copied_once_to_be_known_again(policy, monkeypatch, images, depth):
    monkeypatch.setattr(Frame, "copies", 0)
    ask(policy.session(norm_tag="tiny_arm", depth=depth), [np.ascontiguousarray(image).view(Frame) for image in images])
    assert Frame.copies == len(images)


def test_the_causes_of_full_passes_reach_the_trace(adaptive, clock, images):
    def cause(frames, instruction="pick up the cube"):
        trace = ask(adaptive, frames, instruction).trace
        assert trace.depth_mode == ("forced" if trace.cause else "adaptive")
        assert not trace.cause or trace.refreshed.all()
        return trace.cause

    black = [np.zeros_like(images[0]), images[1]]
    assert cause(images) == "first_call"
    assert cause(images) == ""
    assert cause(images, "place the cube") == "instruction_changed"
    assert cause(black, "place the cube") == "main_image_black"
    assert cause(images, "place the cube") == "main_image_recovered"
    adaptive.reset()
    assert cause(images, "place the cube") == "reset"
    clock.now += 6.0
    assert cause(images, "place the cube") == "gap"
    assert cause([images[0][::2].copy(), images[1]], "place the cube") == "camera_size_changed"


def test_a_reference_session_takes_a_black_frame_for_an_unchanged_one(policy, images):
    session = policy.session(norm_tag="tiny_arm", depth="adaptive", cache_policy="reference")
    first = ask(session, images).trace
    second = ask(session, [np.zeros_like(images[0]), images[1]]).trace
    assert second.depth_mode == "adaptive"
    assert not second.refreshed.any()
    np.testing.assert_array_equal(second.depth_codes, first.depth_codes)
    assert second.decoder_steps == 3
    assert second.reused_runs == 1


def test_cells_age_until_they_are_generated_anew(adaptive, images):
    first = ask(adaptive, images).trace
    second = ask(adaptive, images).trace
    changed = [with_patch(images[0]), images[1]]
    third = ask(adaptive, changed).trace
    assert (first.cell_ages == 0).all()
    assert (second.cell_ages == 1).all()
    assert 0 < third.refreshed.sum() < 50
    np.testing.assert_array_equal(third.cell_ages, np.where(third.refreshed, 0, 2))
    np.testing.assert_array_equal(third.code_probs[~third.refreshed], first.code_probs[~third.refreshed])


def test_a_failed_call_is_forgotten_with_its_cache(adaptive, images, monkeypatch):
    ask(adaptive, images)

    def broken(*args):
        raise ModelError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(adaptive._engine, "flow", broken)
        with pytest.raises(ModelError, match="out of memory"):
            ask(adaptive, images)
    assert ask(adaptive, images).trace.cause == "call_failed"


def test_a_refused_request_leaves_the_cache_as_it_was(adaptive, images):
    ask(adaptive, images)
    with pytest.raises(ModelError):
        adaptive.infer(images, STATE[:3], "pick up the cube")
    with pytest.raises(ModelError):
        ask(adaptive, images, "...")
    assert ask(adaptive, images).trace.cause == ""


def test_what_is_reused_between_calls_does_not_change_the_result(policy, images):
    """Frames and prompt repeat, one frame repeats, only the state changes: each equals a fresh session's answer."""
    session = policy.session(norm_tag="tiny_arm", depth="full")
    other = [images[0], with_patch(images[1], 255)]
    for frames, state in (
        (images, STATE),
        (images, STATE),
        (images, STATE * 0.5),
        (other, STATE),
        (images, STATE),
    ):
        used = session.infer(frames, state, "pick up the cube", seed=3)
        fresh = policy.session(norm_tag="tiny_arm", depth="full").infer(
            frames, state, "pick up the cube", seed=3
        )
        # The part of a prompt that is prefilled alone is summed in another order.
        np.testing.assert_allclose(used.actions, fresh.actions, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(used.trace.depth_codes, fresh.trace.depth_codes)
        np.testing.assert_allclose(used.trace.code_probs, fresh.trace.code_probs, rtol=1e-4)


def test_only_what_follows_the_first_difference_is_prefilled_anew(policy, images, monkeypatch):
    session = policy.session(norm_tag="tiny_arm")
    ask(session, images)
    lengths, forward = [], session._engine._forward
    monkeypatch.setattr(
        session._engine, "_forward", lambda x, visible: lengths.append(x.shape[1]) or forward(x, visible)
    )
    whole = len(ask(session, images).trace.input_ids)
    assert lengths == []
    session.infer(images, STATE * 0.5, "pick up the cube", seed=1, num_steps=1)
    assert 0 < lengths.pop() < whole / 2
    session.infer(images[:1], STATE, "pick up the cube", seed=1, num_steps=1)
    assert lengths.pop() > whole / 4


def test_a_frame_changed_in_place_is_seen(policy, images):
    session = policy.session(norm_tag="tiny_arm")
    before = ask(session, images).actions
    images[0][:] = 255 - images[0]
    after = ask(session, images).actions
    assert np.abs(before - after).max() > 0


def test_a_seed_fixes_the_noise_and_a_drawn_one_is_recorded(policy, images):
    session = policy.session(norm_tag="tiny_arm")
    drawn = ask(session, images, seed=None)
    assert isinstance(drawn.trace.seed, int)
    again = ask(session, images, seed=drawn.trace.seed)
    np.testing.assert_array_equal(drawn.actions, again.actions)
    assert ask(session, images, seed=None).trace.seed != drawn.trace.seed
    generator = torch.Generator().manual_seed(drawn.trace.seed)
    noise = torch.randn((30, 32), generator=generator).numpy()
    given = ask(session, images, seed=None, noise=noise)
    np.testing.assert_array_equal(given.actions, drawn.actions)
    assert given.trace.seed is None


def test_noise_of_a_smaller_scale_brings_chunks_nearer_to_each_other_and_leaves_given_noise_alone(policy, images):
    both = whole, half = [policy.session(norm_tag="tiny_arm", noise_scale=scale) for scale in (1.0, 0.5)]
    spread = [np.std([ask(session, images, seed=seed).actions for seed in range(4)], axis=0).mean() for session in both]
    assert spread[1] < spread[0]
    generator = torch.Generator("cpu").manual_seed(3)
    noise = torch.randn((30, policy.config.max_action_dim), generator=generator).numpy()
    np.testing.assert_array_equal(ask(half, images, seed=3).actions, ask(whole, images, noise=noise / 2).actions)
    np.testing.assert_array_equal(ask(half, images, noise=noise).actions, ask(whole, images, noise=noise).actions)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"noise_scale": 0.2}, "noise_scale is 0.2, expected a number from 0.3 to 1"),
     ({"noise_scale": 1.5}, "noise_scale is 1.5"), ({"noise_scale": float("nan")}, "noise_scale is nan"),
     ({"noise_scale": 0.5, "action_mode": "discrete"}, "discrete actions have no flow")],
)    # fmt: skip
def test_a_scale_of_noise_that_cannot_be_is_refused(policy, options, named):
    with pytest.raises(InputError, match=named):
        policy.session(norm_tag="tiny_arm", **options)


def test_padding_of_the_noise_has_no_effect(policy, images):
    session = policy.session(norm_tag="tiny_arm")
    noise = np.random.default_rng(0).standard_normal((30, 32)).astype(np.float32)
    other = noise.copy()
    other[:, 7:] = 9.0
    a, b = (ask(session, images, seed=None, noise=value).actions for value in (noise, other))
    np.testing.assert_array_equal(a, b)


def test_a_camera_count_other_than_the_tags_is_a_warning(policy, images):
    session = policy.session(norm_tag="tiny_arm")
    assert ask(session, images).trace.warnings == ()
    (warning,) = ask(session, images[:1]).trace.warnings
    assert "1 images were given" in warning
    assert "observation.images.wrist" in warning


def test_two_sessions_of_one_policy_do_not_share_a_cache(policy, images):
    sessions = [policy.session(norm_tag="tiny_arm", depth="adaptive") for _ in range(2)]
    ask(sessions[0], images)
    assert ask(sessions[1], images).trace.cause == "first_call"


def test_calls_from_two_threads_take_turns(policy, images):
    session = policy.session(norm_tag="tiny_arm", depth="adaptive")
    wanted = ask(policy.session(norm_tag="tiny_arm", depth="full"), images).actions
    found = []
    threads = [threading.Thread(target=lambda: found.append(ask(session, images).actions)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    np.testing.assert_array_equal(found[0], wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_full_precision(golden, policy, dtype):
    half = MolmoAct2Policy.from_pretrained(golden.checkpoint, dtype=dtype)
    assert half.network.expert.dtype == getattr(torch, dtype)
    inputs = golden.inputs("flow")
    wanted = golden.value("flow", "actions")
    found = golden.session(half, "flow").infer(**inputs).actions
    assert found.dtype == np.float32
    error = np.sqrt(np.mean((found - wanted) ** 2)) / np.sqrt(np.mean(wanted**2))
    assert error < 0.1


def test_a_depth_pass_in_half_precision_ends(golden):
    half = MolmoAct2Policy.from_pretrained(golden.checkpoint, dtype="bfloat16")
    result = golden.session(half, "think_1", depth="full").infer(**golden.inputs("think_1"))
    assert np.isfinite(result.actions).all()
    assert result.trace.depth_codes.size == 100


# --- reasoning alone --------------------------------------------------------------------------------------
def test_reasoning_alone_gives_and_remembers_what_an_inference_does(policy, clock, images):
    acting, reasoning = (policy.session(norm_tag="tiny_arm", depth="adaptive", clock=clock) for _ in range(2))
    for shown in (images, [with_patch(images[0]), images[1]]):
        trace, found = ask(acting, shown).trace, reasoning.reason(shown, STATE, "pick up the cube")
        assert np.array_equal(found.codes, trace.depth_codes) and np.array_equal(found.refreshed, trace.refreshed)
        assert (found.cause, found.decoder_steps) == (trace.cause, trace.decoder_steps)
    assert not found.refreshed.all()


def test_sessions_beside_each_other_share_what_they_see_and_not_what_they_remember(policy, clock, images):
    full = policy.session(norm_tag="tiny_arm", depth="full")
    by_rule = {"norm_tag": "tiny_arm", "depth": "adaptive", "cache_policy": "reference", "clock": clock}
    loose, strict = (policy.session(**by_rule, similarity_threshold=cosine, beside=full) for cosine in (0.5, 1.0))
    alone = policy.session(**by_rule, similarity_threshold=0.5)
    for shown in (images, [with_patch(images[0]), images[1]]):
        everything = full.reason(shown, STATE, "pick up the cube")
        few, many = (session.reason(shown, STATE, "pick up the cube") for session in (loose, strict))
        assert np.array_equal(few.codes, alone.reason(shown, STATE, "pick up the cube").codes)
    assert everything.refreshed.all() and few.refreshed.sum() < many.refreshed.sum()


def test_without_depth_there_is_nothing_to_reason(policy, images):
    with pytest.raises(InputError, match="depth is off"):
        policy.session(norm_tag="tiny_arm").reason(images, STATE, "pick up the cube")
