# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Every optimisation leaves the function as it is; the engine with all of them off is the oracle.

On a processor `graphs` runs the step that a GPU would record, over what it needs besides itself; and `unwatched` does
nothing, so that only what it asks of a GPU is tested."""

import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_set import textured
from made_networks import made

from molmoact2_model import InputError, MolmoAct2Policy
from molmoact2_model.blueprint import Blueprint
from molmoact2_model.engine import Engine
from molmoact2_model.fused_language import BUCKET, Buffers, FusedLanguage
from molmoact2_model.fused_network import fuse
from molmoact2_model.graphs import CodeSteps
from molmoact2_model.optimizations import PLAIN, Optimizations
from molmoact2_model.stopwatch import Stopwatch

STATE = np.array([0.1, -0.2, 0.3, 0.0, -0.5, 1.0, 0.4], np.float32)
ALL = Optimizations.only(set(Optimizations.names()) - {"compiled"})    # which has tests of its own: test_compiled.py
NEEDS = {    # each of the others stands alone
    "graphs": ("graphs", "fused_language", "joined_passes", "fused_expert"),
}
ALONE = [name for name in ALL.on() if name != "unwatched"]
KINDS = {
    "default": Optimizations(), "all": ALL, **{name: Optimizations.only(NEEDS.get(name, (name,))) for name in ALONE}
}


def calls():
    """Frames of five calls: a scene, a part of it changed, all as before, only the state, the second camera."""
    main, wrist = textured(), textured(7)
    moved, other = main.copy(), wrist.copy()
    moved[100:240, 100:300] = 0
    other[:100] = 255
    return [
        ([main, wrist], STATE), ([moved, wrist], STATE), ([moved, wrist], STATE), ([moved, wrist], STATE * 0.5),
        ([moved, other], STATE * 0.5),
    ]  # fmt: skip


def answers(policy, optimizations):
    session = policy.session(
        norm_tag="tiny_arm", depth="adaptive", cache_policy="reference", optimizations=optimizations
    )
    return [session.infer(images, state, "pick up the cube", seed=4) for images, state in calls()]


@pytest.fixture(scope="module")
def plain(policy):
    return answers(policy, PLAIN)


@pytest.mark.parametrize("name", KINDS)
def test_codes_are_the_same_and_actions_agree_to_the_fifth_digit(policy, plain, name):
    for one, other in zip(plain, answers(policy, KINDS[name]), strict=True):
        np.testing.assert_array_equal(one.trace.depth_codes, other.trace.depth_codes)
        np.testing.assert_array_equal(one.trace.generated_token_ids, other.trace.generated_token_ids)
        np.testing.assert_array_equal(one.trace.input_ids, other.trace.input_ids)
        np.testing.assert_allclose(one.trace.code_probs, other.trace.code_probs, atol=1e-5)
        assert np.abs(one.actions - other.actions).max() <= 1e-5
        assert one.trace.decoder_steps == other.trace.decoder_steps


def test_the_step_that_a_gpu_would_record_is_what_generates_the_codes_where_graphs_are_on(policy, monkeypatch):
    run, counted = CodeSteps.run, []
    monkeypatch.setattr(CodeSteps, "run", lambda steps, code, count: counted.append(count) or run(steps, code, count))
    trace = answers(policy, KINDS["graphs"])[0].trace
    assert counted[0] == trace.depth_codes.size - 1    # all but the first code of a full pass


def test_a_gpu_is_waited_for_at_the_end_of_each_stage_unless_unwatched(policy, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    gpu, clock = torch.device("cuda"), iter(range(100)).__next__
    for unwatched in (False, True):
        session = policy.session(norm_tag="tiny_arm", optimizations=Optimizations(unwatched=unwatched))
        watch = Stopwatch(gpu, session._watched, clock)
        watch.lap("vision")
        watch.lap("expert")
        assert set(watch.done()) == {"vision", "expert", "total"}
        assert len(waits) == (0 if unwatched else 2)
        waits.clear()


def test_features_of_a_camera_that_were_kept_do_not_show_in_the_bits_of_a_result(policy):
    wanted = replace(Optimizations(), reuse_cameras=True)
    used = policy.session(norm_tag="tiny_arm", optimizations=wanted)
    for place, (images, state) in enumerate(calls()):
        found = used.infer(images, state, "pick up the cube", seed=4).actions
        if place in (0, 1, 4):    # where some frame is new; else a part of the prompt is kept, and summed otherwise
            fresh = policy.session(norm_tag="tiny_arm", optimizations=wanted)
            np.testing.assert_array_equal(found, fresh.infer(images, state, "pick up the cube", seed=4).actions)


def test_a_camera_whose_frame_repeats_is_not_looked_at_again(policy, monkeypatch):
    session = policy.session(norm_tag="tiny_arm", optimizations=replace(Optimizations(), reuse_cameras=True))
    looked, look = [], session.engine._look
    monkeypatch.setattr(session.engine, "_look", lambda images: looked.append(len(images)) or look(images))
    seen = []
    for images, state in calls():
        session.infer(images, state, "pick up the cube", seed=4, num_steps=1)
        seen.append(sum(looked))
        looked.clear()
    assert seen == [2, 1, 0, 0, 1]


def test_of_the_numbers_of_steps_the_last_four_are_kept_and_a_result_does_not_show_which(policy):
    session = policy.session(norm_tag="tiny_arm")
    images, state = calls()[0]
    found = {}
    for steps in (1, 2, 3, 4, 1, 5, 6):
        actions = session.infer(images, state, "pick up the cube", seed=4, num_steps=steps).actions
        np.testing.assert_array_equal(found.setdefault(steps, actions), actions)
    assert [steps for steps, _ in session.engine._flow.kept] == [4, 1, 5, 6]
    again = session.infer(images, state, "pick up the cube", seed=4, num_steps=2).actions
    np.testing.assert_array_equal(found[2], again)


def test_what_is_known_ahead_is_read_in_the_same_pass(policy):
    passes = {}
    for name, kind in (("plain", PLAIN), ("joined", Optimizations())):
        session = policy.session(norm_tag="tiny_arm", depth="adaptive", cache_policy="reference", optimizations=kind)
        found = []
        for images, state in calls()[:3]:
            trace = session.infer(images, state, "pick up the cube", seed=4, num_steps=1).trace
            found.append((session.engine.passes, trace.decoder_steps, int(trace.refreshed.sum())))
        passes[name] = found
    assert all(made == steps for made, steps, _ in passes["plain"])
    full, some, none = passes["joined"]
    assert full[0] == full[1] - 1    # the end with the last code
    assert some[0] == some[2] + 1 < some[1]    # a pass for each code, and one for what stands before the first
    assert none[:2] == (1, 3)    # start, all codes and end


def test_a_draft_that_is_right_takes_one_pass_end_included(policy):
    session = policy.session(norm_tag="tiny_arm", depth="verified")
    images, state = calls()[0]
    first = session.infer(images, state, "pick up the cube", seed=4, num_steps=1).trace
    again = session.infer(images, state, "pick up the cube", seed=4, num_steps=1).trace
    assert session.engine.passes == 1 and not again.refreshed.any()
    np.testing.assert_array_equal(first.generated_token_ids, again.generated_token_ids)


def test_drafts_given_from_outside_are_only_drafts(policy, plain):
    session = policy.session(norm_tag="tiny_arm", depth="verified")
    wrong = plain[0].trace.depth_codes.copy()
    wrong[[3, 50, 99]] = (wrong[[3, 50, 99]] + 1) % 128
    session.expect(wrong)
    images, state = calls()[0]
    trace = session.infer(images, state, "pick up the cube", seed=4).trace
    np.testing.assert_array_equal(trace.depth_codes, plain[0].trace.depth_codes)
    np.testing.assert_array_equal(np.flatnonzero(trace.refreshed), [3, 50, 99])


# --- other networks ---------------------------------------------------------------------------------------
VARIANTS = {
    "biases": ({"qkv_bias": True}, {}),
    "no_norms": ({}, {"qk_norm": False, "context_layer_norm": False, "rope": False}),
    "causal": ({}, {"causal_attn": True}),
    "norm_after": ({"norm_after": True}, {}),
    "norm_over_all_heads": ({"qk_norm_type": "olmo"}, {}),
}


def biased(network):
    generator = torch.Generator().manual_seed(1)
    for root in (network.vlm, network.expert):
        for name, parameter in root.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=generator).mul_(0.3)
            elif "norm" in name and parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)


def ask(policy, optimizations, **options):
    session = policy.session(norm_tag="one", optimizations=optimizations, **options)
    return session, session.infer([textured()], np.zeros(3, np.float32), "fold the towel", seed=1)


@pytest.mark.parametrize("name", VARIANTS)
def test_networks_of_other_kinds_are_computed_alike_or_left_as_they_are(tmp_path, name):
    text, expert = VARIANTS[name]
    policy = made(tmp_path, Blueprint(num_depth_codes=16), text, expert, biased)
    _, wanted = ask(policy, PLAIN, depth="full")
    session, found = ask(policy, Optimizations(), depth="full")
    np.testing.assert_array_equal(wanted.trace.depth_codes, found.trace.depth_codes)
    np.testing.assert_allclose(wanted.actions, found.actions, atol=1e-5 * max(1.0, np.abs(wanted.actions).max()))
    assert (session.engine.fused.language is None) == (name in ("norm_after", "norm_over_all_heads"))


def says_something_first(network):
    """Between the last code and <depth_end> stands token 7."""
    depth, head = network.config.depth, network.vlm.lm_head.weight
    table = network.vlm.model.language_model.embed_tokens.weight
    table[depth.first : depth.first + depth.codebook_size, 1] = 0.0
    table[7, :2] = torch.tensor([4.0, 40.0])
    head[7] = 0.0
    head[7, :2] = torch.tensor([20.0, -10.0])


@pytest.mark.parametrize("depth", ["full", "verified"])
def test_an_end_that_was_read_too_early_is_forgotten(tmp_path, depth):
    policy = made(tmp_path, Blueprint(num_depth_codes=16), change=says_something_first)
    _, wanted = ask(policy, PLAIN, depth="full")
    end = policy.config.depth.end
    assert wanted.trace.generated_token_ids[-2:].tolist() == [7, end]
    session, found = ask(policy, Optimizations(), depth=depth)
    if depth == "verified":
        found = session.infer([textured()], np.zeros(3, np.float32), "fold the towel", seed=1)
        assert session.engine.passes == 3
    np.testing.assert_array_equal(wanted.trace.generated_token_ids, found.trace.generated_token_ids)
    np.testing.assert_allclose(wanted.actions, found.actions, atol=1e-5 * max(1.0, np.abs(wanted.actions).max()))


def test_fused_weights_are_the_networks_own_and_not_held_twice(tmp_path):
    policy = made(tmp_path, Blueprint(num_depth_codes=16))
    network = policy.network
    attention = network.vlm.model.language_model.layers[0].self_attn
    before = attention.v_proj.weight.clone()
    policy.session(norm_tag="one", optimizations=Optimizations())
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    assert len({part.weight.untyped_storage().data_ptr() for part in parts}) == 1
    assert torch.equal(attention.v_proj.weight, before)
    _, one = ask(policy, Optimizations())
    attention.v_proj.weight.mul_(-1.0)
    _, other = ask(policy, Optimizations())
    assert np.abs(one.actions - other.actions).max() > 0


def test_two_threads_that_open_sessions_at_once_fuse_once(tmp_path, monkeypatch):
    policy, both, found = made(tmp_path, Blueprint(num_depth_codes=16)), threading.Barrier(2), []

    def fused(*asked):
        with suppress(threading.BrokenBarrierError):    # which only two that are here at once would pass
            both.wait(0.2)
        return fuse(*asked)

    def open_one():
        found.append(policy.session(norm_tag="one", optimizations=Optimizations()).engine.fused)

    monkeypatch.setattr("molmoact2_model.reader.fuse", fused)
    threads = [threading.Thread(target=open_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert both.broken and found[0].language is found[1].language and found[0].expert is found[1].expert


def test_a_policy_of_a_network_that_others_hold_does_not_rearrange_it(tmp_path):
    policy = made(tmp_path, Blueprint(num_depth_codes=16))
    weight = policy.network.vlm.model.language_model.layers[0].self_attn.k_proj.weight
    ask(MolmoAct2Policy(policy.network, policy.images, policy.stats, policy.tokenizer, "shared"), None)
    assert policy.network.vlm.model.language_model.layers[0].self_attn.k_proj.weight is weight


# --- the step of fixed shapes -----------------------------------------------------------------------------
def test_a_step_of_fixed_shapes_equals_one_over_what_is_in_use(policy):
    text, language = policy.config.text, policy.network.vlm.model.language_model
    fused, device = FusedLanguage(language, text), torch.device("cpu")
    one, other = (Buffers(text, device, torch.float32) for _ in range(2))
    embeddings = torch.randn((6, text.hidden_size), generator=torch.Generator().manual_seed(0))
    for cache in (one, other):
        fused.reserve(cache, 16)
        fused(embeddings[:4], torch.ones(4, 4, dtype=torch.bool).tril(), cache)
    for place in (4, 5):
        wanted = fused(embeddings[place : place + 1], None, one)
        found = fused.at(embeddings[place : place + 1], torch.tensor([place]), 16, other)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other.data[..., :6, :], one.data[..., :6, :], atol=1e-5, rtol=1e-5)


def test_steps_are_recorded_anew_when_the_cache_moves(policy):
    engine = Engine(policy.network, policy.images, ALL)
    engine._cache.reserve(8)
    steps = engine._graphed(policy.network.vlm.lm_head.weight[:4], 0)
    assert isinstance(steps, CodeSteps) and engine._graphed(policy.network.vlm.lm_head.weight[:4], 0) is steps
    engine._cache.reserve(BUCKET)
    assert engine._graphed(policy.network.vlm.lm_head.weight[:4], 0) is steps
    engine._cache.reserve(BUCKET + 1)
    assert engine._graphed(policy.network.vlm.lm_head.weight[:4], 0) is not steps


def test_an_optimisation_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="'magic' is no optimisation, expected one of reuse, "):
        Optimizations.only(["magic"])
