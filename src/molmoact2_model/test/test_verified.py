# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes by draft and verify are those of plain decoding, in fewer passes."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from golden_set import textured

from molmoact2_model.drafting import Drafting

STATE = np.array([0.1, -0.2, 0.3, 0.0, -0.5, 1.0, 0.4], np.float32)
CLOSING = 1    # passes: <depth_end>


def next_frame(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same, a patch of it otherwise, all of it noisy or darker, or another scene."""
    changed, kind = image.astype(np.float32), int(random.integers(6))
    if kind == 1:
        changed += random.normal(0, 6, image.shape)
    elif kind == 2:
        changed *= random.uniform(0.6, 1.3)
    elif kind == 3:
        changed = textured(int(random.integers(1_000_000))).astype(np.float32)
    elif kind:
        top, left = random.integers(0, image.shape[0] - 40), random.integers(0, image.shape[1] - 40)
        height, width = random.integers(20, 200, 2)
        changed[top : top + height, left : left + width] = random.uniform(0, 255, 3)
    return changed.round().clip(0, 255).astype(np.uint8)


def reason(session, image, instruction="pick up the cube"):
    return session.reason([image, textured(7)], STATE, instruction)


@dataclass
class Compared:
    """Passes of both ways, and how many codes each call changed."""

    plain: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)


def compare(policy, calls: int, plainly: dict, with_draft: dict) -> Compared:
    """Both over the same frames, each equal to the last but for what `next_frame` does."""
    random, image = np.random.default_rng(5), textured()
    plain = policy.session(norm_tag="tiny_arm", **plainly)
    drafted = policy.session(norm_tag="tiny_arm", beside=plain, **with_draft)
    found, before = Compared(), None
    for _ in range(calls):
        one, other = reason(plain, image), reason(drafted, image)
        assert np.array_equal(one.codes, other.codes)
        found.plain.append(one.decoder_steps)
        found.drafted.append(other.decoder_steps)
        if before is not None:
            found.changes.append(int((one.codes != before).sum()))
            if with_draft["depth"] == "verified":
                assert np.array_equal(other.refreshed, one.codes != before)
            else:
                assert np.array_equal(other.refreshed, one.refreshed)
        before, image = one.codes, next_frame(image, random)
    return found


def test_verified_codes_equal_full_decoding_over_two_hundred_frames_in_fewer_passes(policy):
    found = compare(policy, 201, {"depth": "full"}, {"depth": "verified"})
    assert found.drafted[0] == found.plain[0]    # nothing to draft with
    for passes, plain, changes in zip(found.drafted[1:], found.plain[1:], found.changes, strict=True):
        assert passes <= plain
        assert changes or passes == 1 + CLOSING
    assert 0 in found.changes and max(found.changes) > 20
    assert sum(found.drafted[1:]) <= sum(changes + 1 + CLOSING for changes in found.changes) < sum(found.plain[1:])


def test_adaptive_depth_with_a_draft_equals_adaptive_depth_without(policy):
    patient = {"depth": "adaptive", "max_gap": 600.0}    # a slow machine is no reason to begin anew
    found = compare(policy, 60, patient, {**patient, "draft": True})
    assert sum(found.drafted) < sum(found.plain)


def test_cells_that_may_not_change_are_kept_whatever_the_model_would_have_said(policy):
    session = policy.session(norm_tag="tiny_arm", depth="adaptive", cache_policy="reference", draft=True)
    before = reason(session, textured())
    changed = textured()
    changed[:60, :200] = 0
    after = reason(session, changed)
    assert 0 < after.refreshed.sum() < 50
    assert np.array_equal(after.codes[~after.refreshed], before.codes[~after.refreshed])


@pytest.mark.parametrize("depth", ["verified", "adaptive"])
def test_actions_and_probabilities_are_those_of_plain_decoding(policy, depth):
    plain = policy.session(norm_tag="tiny_arm", depth="full" if depth == "verified" else depth)
    drafted = policy.session(norm_tag="tiny_arm", depth=depth, draft=True)
    random, image = np.random.default_rng(3), textured()
    for _ in range(4):
        one, other = (
            session.infer([image, textured(7)], STATE, "pick up the cube", seed=1) for session in (plain, drafted)
        )
        assert np.abs(one.actions - other.actions).max() < 1e-5
        assert np.array_equal(one.trace.generated_token_ids, other.trace.generated_token_ids)
        assert np.allclose(one.trace.code_probs, other.trace.code_probs, atol=1e-5)
        assert np.array_equal(one.trace.input_ids, other.trace.input_ids)
        image = next_frame(image, random)
    assert other.trace.depth_mode in (depth, "forced")


@pytest.mark.parametrize("wrong", [[], [0], [99], [3, 4, 50, 99], list(range(100))])
def test_codes_that_depend_on_nothing_but_the_image_are_found_in_few_passes(wrong):
    truth, draft = np.arange(100) % 7, np.arange(100) % 7
    draft[wrong] = 9
    drafting, passes = Drafting(draft, np.ones(100, bool)), 1
    while not drafting.verify(truth[drafting.sure :]):
        passes += 1
    assert np.array_equal(drafting.codes, truth) and passes <= min(len(wrong) + 1, 4)


def test_a_draft_that_a_pass_contradicts_is_not_given_up_for_words_that_were_conditioned_on_what_was_wrong():
    """The model says nonsense of all codes behind one that is not right yet."""
    truth, draft = np.arange(100) % 7, np.arange(100) % 7
    draft[[10, 20, 30]] = 9
    drafting, passes = Drafting(draft, np.ones(100, bool)), 1
    while True:
        right = int(np.argmin(np.append(drafting.codes == truth, False)))
        said = np.where(np.arange(100) <= right, truth, 8)
        if drafting.verify(said[drafting.sure :]):
            break
        passes += 1
    assert np.array_equal(drafting.codes, truth) and passes == 4


def test_a_reset_and_a_failed_call_leave_no_draft(policy, monkeypatch):
    session = policy.session(norm_tag="tiny_arm", depth="verified")
    full = reason(session, textured()).decoder_steps
    assert reason(session, textured()).decoder_steps == 1 + CLOSING
    session.reset()
    again = reason(session, textured())
    assert again.decoder_steps == full and again.refreshed.all()
    monkeypatch.setattr(session.engine, "verify_depth", lambda *_: (_ for _ in ()).throw(RuntimeError("no")))
    with pytest.raises(RuntimeError):
        reason(session, textured())
    monkeypatch.undo()
    assert reason(session, textured()).decoder_steps == full
