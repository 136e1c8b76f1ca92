# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Depth codes by draft and verify are those of plain decoding, in fewer passes."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from golden_set import textured
from made_networks import LITTLE, made

from molmoact2_model import MolmoAct2Policy
from molmoact2_model.drafting import LOSE_ONE_IN, SPARE, SPARE_AFTER_LOSS, TOKEN_COST, Budget, Drafting
from molmoact2_model.optimizations import Optimizations

STATE = np.array([0.1, -0.2, 0.3, 0.0, -0.5, 1.0, 0.4], np.float32)
CLOSING = 1    # steps: <depth_end>
TRAINED = Path(__file__).parents[3] / "checkpoints/molmoact2-tiny-think-so101"


def next_frame(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same, a patch of it otherwise, all of it noisy or darker, or another scene."""
    (rows, columns), changed, kind = image.shape[:2], image.astype(np.float32), int(random.integers(6))
    if kind == 1:
        changed += random.normal(0, 6, image.shape)
    elif kind == 2:
        changed *= random.uniform(0.6, 1.3)
    elif kind == 3:
        changed = textured(int(random.integers(1_000_000)), size=(rows, columns)).astype(np.float32)
    elif kind:
        top, left = random.integers(0, rows - 20), random.integers(0, columns - 20)
        height, width = random.integers(10, rows // 2), random.integers(10, columns // 2)
        changed[top : top + height, left : left + width] = random.uniform(0, 255, 3)
    return changed.round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return made(tmp_path_factory.mktemp("little"), LITTLE, optimizations=Optimizations())


@pytest.fixture
def patient(monkeypatch):
    """Drafts are never given up, as where a pass costs the same however many tokens it reads."""
    monkeypatch.delitem(TOKEN_COST, "cpu")


@pytest.fixture
def impatient(monkeypatch):
    """Every draft is given up after a pass that did not find it right."""
    monkeypatch.setitem(TOKEN_COST, "cpu", 100.0)


def reason(session, image, instruction="pick up the cube"):
    return session.reason([image, textured(7)], STATE, instruction)


@dataclass
class Compared:
    """Passes over codes of both ways, and how many codes each call changed."""

    plain: list[int] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)


def compare(policy, calls: int, plainly: dict, with_draft: dict) -> Compared:
    """Both over the same frames, each equal to the last but for what `next_frame` does."""
    tag = policy.norm_tags[0]
    joints = policy.stats.tag(tag).state.dim
    small = joints == 3
    random, image = np.random.default_rng(5), textured(size=(120, 160) if small else (480, 640))
    state, others = STATE[:joints], [] if small else [textured(7)]
    plain = policy.session(norm_tag=tag, **plainly)
    drafted = policy.session(norm_tag=tag, beside=plain, **with_draft)
    found, before = Compared(), None
    for _ in range(calls):
        one, other = (session.reason([image, *others], state, "pick up the cube") for session in (plain, drafted))
        assert np.array_equal(one.codes, other.codes)
        found.plain.append(one.decoder_steps - CLOSING)
        found.drafted.append(other.decoder_steps - CLOSING)
        if before is not None:
            found.changes.append(int((one.codes != before).sum()))
            if with_draft["depth"] == "verified":
                assert np.array_equal(other.refreshed, one.codes != before)
            else:
                assert np.array_equal(other.refreshed, one.refreshed)
        before, image = one.codes, next_frame(image, random)
    return found


def most(changes: int) -> int:
    """Passes, as Drafting promises."""
    return changes + 1 if changes < 2 else changes + 2 + changes // LOSE_ONE_IN


def test_verified_codes_equal_full_decoding_in_two_hundred_random_sequences_in_as_few_passes_as_promised(
    little, patient
):
    """Of two frames each, and every tenth of four, with a reset or another instruction here and there."""
    full = little.session(norm_tag="one", depth="full")
    verified = little.session(norm_tag="one", depth="verified", beside=full)
    seen, passes = [], {"full": 0, "verified": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        image, instruction, before = textured(seed, size=(120, 160)), "pick up the cube", None
        verified.reset()
        for call in range(2 if seed % 10 else 4):
            one, other = (session.reason([image], STATE[:3], instruction) for session in (full, verified))
            assert np.array_equal(one.codes, other.codes), (seed, call)
            plain, drafted = one.decoder_steps - CLOSING, other.decoder_steps - CLOSING
            if before is None:
                assert drafted == plain    # nothing to draft with
            else:
                changes = int((one.codes != before).sum())
                seen.append(changes)
                assert drafted <= min(most(changes), plain) and (changes or drafted == 1), (seed, call)
                assert np.array_equal(other.refreshed, one.codes != before), (seed, call)
                passes["full"] += plain
                passes["verified"] += drafted
            before, image = one.codes, next_frame(image, random)
            event = int(random.integers(3)) if seed % 10 == 0 else None
            if event == 0:
                verified.reset()
                before = None
            elif event == 1:
                instruction = f"put the cube on plate {call}"
    assert 0 in seen and 1 in seen and max(seen) > 12 and len(seen) > 200
    assert passes["verified"] < passes["full"]


@pytest.mark.parametrize("trained", [False, True])
def test_so_do_those_of_a_hundred_codes_and_where_codes_follow_from_the_image_in_fewer_passes(
    policy, patient, trained
):
    network = MolmoAct2Policy.from_pretrained(TRAINED) if trained else policy
    found = compare(network, 7, {"depth": "full"}, {"depth": "verified"})
    for passes, changes in zip(found.drafted[1:], found.changes, strict=True):
        assert passes <= most(changes)
    assert max(found.changes) > 20
    assert not trained or sum(found.drafted[1:]) < sum(found.changes)


@pytest.mark.parametrize("wrong", [0, 1, 5, 16])
def test_the_engine_makes_a_pass_for_each_wrong_code_of_a_draft_and_no_more_than_promised_beyond(
    little, patient, wrong
):
    session = little.session(norm_tag="one", depth="verified")
    image = textured(size=(120, 160))

    def ask():
        codes = session.reason([image], STATE[:3], "pick up the cube").codes
        return codes, session.engine.passes

    truth, full = ask()
    assert full == 17    # with <depth_start>; the end is read with the last code
    random = np.random.default_rng(wrong)
    for _ in range(4):
        draft = truth.copy()
        chosen = random.permutation(16)[:wrong]
        draft[chosen] = (draft[chosen] + random.integers(1, 128, wrong)) % 128
        session.expect(draft)
        codes, passes = ask()
        assert np.array_equal(codes, truth) and passes <= min(most(wrong), 17)
        assert wrong > 1 or passes == wrong + 1


ADAPTIVE = {"depth": "adaptive", "max_gap": 600.0}    # a slow machine is no reason to begin anew


def test_adaptive_depth_with_a_draft_equals_adaptive_depth_without(little, patient):
    found = compare(little, 60, ADAPTIVE, {**ADAPTIVE, "draft": True})
    assert sum(found.drafted) < sum(found.plain)


def test_a_draft_that_is_given_up_changes_no_code(little, impatient):
    found = compare(little, 15, {"depth": "full"}, {"depth": "verified"})
    assert sum(passes > 8 for passes in found.drafted) > 2
    compare(little, 15, ADAPTIVE, {**ADAPTIVE, "draft": True})


def test_cells_that_may_not_change_are_kept_whatever_the_model_would_have_said(policy):
    session = policy.session(norm_tag="tiny_arm", depth="adaptive", cache_policy="reference", draft=True)
    before = reason(session, textured())
    changed = textured()
    changed[:60, :200] = 0
    after = reason(session, changed)
    assert 0 < after.refreshed.sum() < 50
    assert np.array_equal(after.codes[~after.refreshed], before.codes[~after.refreshed])


TOKEN = TOKEN_COST["cpu"]


def work(engine):
    """Of the codes, in passes over one token on a processor."""
    return engine.passes + TOKEN * engine.tokens_read


@pytest.mark.parametrize("trained", [False, True])
def test_a_draft_that_is_mostly_wrong_costs_a_processor_little_more_than_decoding_one_by_one(policy, trained):
    """And one that is mostly right is not given up."""
    network = MolmoAct2Policy.from_pretrained(TRAINED) if trained else policy
    tag, image, random = network.norm_tags[0], textured(), np.random.default_rng(4)
    state = STATE[: network.stats.tag(tag).state.dim]
    full, session = (network.session(norm_tag=tag, depth=depth) for depth in ("full", "verified"))

    def ask(session):
        return session.reason([image, textured(7)], state, "pick up the cube").codes

    truth = ask(full)
    one_by_one, one_pass = work(full.engine), 1 + TOKEN * (CELLS + 2)
    ask(session)
    lost = False
    for wrong in (3, 10, 70, 100, 100):
        draft = truth.copy()
        chosen = random.permutation(CELLS)[:wrong]
        draft[chosen] = (draft[chosen] + random.integers(1, 128, wrong)) % 128
        session.expect(draft)
        assert np.array_equal(ask(session), truth)
        assert work(session.engine) <= (1 + SPARE) * one_by_one + one_pass
        assert wrong > 10 or session.engine.passes <= most(wrong)
        if lost:
            assert work(session.engine) <= (1 + SPARE_AFTER_LOSS) * one_by_one + one_pass
        lost = session.engine.passes > CELLS / 2


@pytest.mark.parametrize("depth", ["verified", "adaptive"])
def test_actions_and_probabilities_are_those_of_plain_decoding(policy, depth):
    plain = policy.session(norm_tag="tiny_arm", depth="full" if depth == "verified" else depth)
    drafted = policy.session(norm_tag="tiny_arm", depth=depth, draft=depth == "adaptive")
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
    assert other.trace.depth_mode in ("verified", "adaptive_verified", "forced")


# --- how many passes -----------------------------------------------------------------------------------------------
CELLS = 100
NONSENSE = np.full(CELLS, 8)


def passes(draft, truth, after):
    """A model that says what is true up to and with the first code that is wrong, and behind it what `after` gives."""
    drafting, count = Drafting(draft, np.ones(CELLS, bool)), 1
    while True:
        right = int(np.argmin(np.append(drafting.codes == truth, False)))
        said = np.where(np.arange(CELLS) <= right, truth, after())
        if drafting.verify(said[drafting.sure :]):
            assert np.array_equal(drafting.codes, truth)
            return count
        count += 1


def pair(wrong):
    """Codes that are true, and a draft of them that is wrong in some."""
    truth = np.arange(CELLS) % 7
    draft = truth.copy()
    draft[wrong] = 9
    return draft, truth


@pytest.mark.parametrize("wrong", [[], [0], [99], [3, 4, 50, 99], list(range(100))])
def test_codes_that_depend_on_nothing_but_the_image_are_found_in_few_passes(wrong):
    draft, truth = pair(wrong)
    assert passes(draft, truth, lambda: truth) <= min(len(wrong) + 1, 4)


@pytest.mark.parametrize("changes", [0, 1, 5, 25, 65, 100])
def test_whatever_a_model_says_behind_a_wrong_code_the_passes_are_bounded_by_the_codes_that_change(changes):
    for seed in range(30):
        random = np.random.default_rng(seed)
        draft, truth = pair(random.permutation(CELLS)[:changes])
        share = random.choice([0.0, 0.5, 0.9, 0.97])    # of what it says that is true all the same

        def said(random=random, truth=truth, share=share):
            return np.where(random.random(CELLS) < share, truth, NONSENSE)

        count = passes(draft, truth, said)
        assert count <= min(most(changes), CELLS + 1)
        assert changes > 1 or count == changes + 1


def test_words_that_mislead_every_second_time_cost_one_pass_and_no_more_where_few_codes_change():
    """The most that can be lost. What the model says is all true in one pass, so that it is drafted with, and in the
    next wrong where the draft that was given is right."""
    wrong = [10, 20, 30, 40, 50, 60]
    draft, truth = pair(wrong)
    turns = iter(range(CELLS))

    def said():
        misled, turn = truth.copy(), next(turns)
        misled[5::10] = 8
        return misled if turn % 2 else truth

    assert passes(draft, truth, said) == len(wrong) + 2


def test_a_draft_that_a_pass_contradicts_is_not_given_up_for_words_that_were_conditioned_on_what_was_wrong():
    """The model says nonsense of all codes behind one that is not right yet."""
    draft, truth = pair([10, 20, 30])
    assert passes(draft, truth, lambda: NONSENSE) == 4


def lasts(sure, spare=SPARE, token_cost=TOKEN):
    """Of passes over a hundred codes, after each of which so many are sure: whether drafting goes on."""
    budget = Budget(np.ones(CELLS, bool), token_cost, spare)
    before = [0, *sure[:-1]]
    return [budget.lasts(CELLS + 2 - begin, end) for begin, end in zip(before, sure, strict=True)]


def test_a_draft_is_given_up_when_passes_find_little_sooner_after_one_that_was_and_not_while_they_find_much():
    little, much = range(1, 13), [1, 3, 12, 20, 30, 45, 60, 80, 99]
    assert lasts(little).count(True) > lasts(little, SPARE_AFTER_LOSS).count(True) >= 1
    assert not lasts(little)[-1]
    assert all(lasts(much))


def test_where_a_pass_costs_the_same_however_much_it_reads_no_draft_is_given_up():
    assert all(lasts(range(1, CELLS), token_cost=0.0))


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
