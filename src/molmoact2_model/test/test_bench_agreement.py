# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 bench-model --agreement`: codes of verified depth beside those of full decoding, and by what margins."""

import argparse
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_networks import LITTLE, made

from molmoact2_model import InputError
from molmoact2_model.bench import command
from molmoact2_model.bench.agreement import agreement, margins, summed
from molmoact2_model.bench.measure import measured
from molmoact2_model.bench.report import agreement_table
from molmoact2_model.errors import DecodeError
from molmoact2_model.optimizations import Optimizations
from molmoact2_model.session import Session

SCORES = np.array([[4.0, 1.0, 0.0], [2.0, 2.25, -1.0], [0.0, 5.0, 3.0], [7.0, 0.0, 1.0]], np.float32)
FULL = np.array([0, 1, 1, 0])


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    return made(tmp_path_factory.mktemp("little"), LITTLE, optimizations=Optimizations())


def test_the_first_code_that_differs_is_told_from_those_after_it_each_with_the_margin_to_the_other_code():
    found = margins(FULL, SCORES, np.array([0, 0, 1, 1]))
    assert found.margins.tolist() == [3.0, 0.25, 2.0, 6.0]
    assert found.flipped.tolist() == [0.25] and found.followed.tolist() == [7.0]    # not to the second best
    same = margins(FULL, SCORES, FULL)
    assert not same.flipped.size and not same.followed.size
    row = summed([found, same])
    assert (row["calls"], row["codes"], row["agree"], row["flipped"], row["followed"]) == (2, 8, 6, 1, 1)
    assert row["margin_median"] == 2.5 and row["flipped_margin_max"] == 0.25 and row["followed_margin_median"] == 7.0


def test_a_tie_that_fell_the_other_way_has_no_margin():
    scores = np.array([[1.0, 1.0, 0.0]], np.float32)
    row = summed([margins(np.array([0]), scores, np.array([1]))])
    assert row["agree"] == 0 and row["flipped_margin_max"] == row["margin_median"] == 0.0


def test_in_float32_verified_agrees_with_full_decoding_wholly_whatever_the_draft_was(little):
    shape = measured(little, "one", 1)
    rows = agreement(little, "one", Optimizations(), shape, (0, 9), 3)
    assert [row["draft_wrong"] for row in rows] == [0, 9]
    for row in rows:
        assert (row["calls"], row["codes"], row["agree"], row["flipped"], row["followed"]) == (3, 48, 48, 0, 0)
        assert row["margin_median"] > 0 and row["flipped_margin_median"] is None


def test_the_logits_shown_are_those_that_full_decoding_chose_by(little):
    session, shown = little.session(norm_tag="one", depth="full"), []
    session.engine.scored = shown.append
    image = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    codes = session.reason([image], np.zeros(3, np.float32), "pick up the cube").codes
    assert [int(scores.argmax()) for scores in shown] == codes.tolist() and {*map(len, shown)} == {1}


@pytest.mark.parametrize(("fails", "left"), [((1, 3), (1, 1, 1, 16)), ((1, 2, 3), (3, 0, 0, 0))])
def test_a_call_without_an_end_of_its_codes_is_left_out_and_told(little, monkeypatch, fails, left):
    """fails: which of the decodings do not end: 1 is full of the first frame; 2 full of the second, 3 verified of it or
    full of the third."""
    reason, asked = Session.reason, []

    def sometimes(session, *shown):
        asked.append(session)
        if len(asked) in fails:
            raise DecodeError("no end")
        return reason(session, *shown)

    monkeypatch.setattr(Session, "reason", sometimes)
    (row,) = agreement(little, "one", Optimizations(), measured(little, "one", 1), (2,), 3)
    assert (row["unended_full"], row["unended_verified"], row["calls"], row["agree"]) == left
    assert (row["margin_median"] is None) == (not row["codes"])    # no figure is made of nothing
    told = agreement_table([{"name": "float32", **row}])
    assert told.endswith("left out, no <depth_end>: full 1, verified 1" if left[1] else "no <depth_end>: full 3")


def test_without_depth_there_is_nothing_to_agree_and_it_is_said_before_anything_is_measured(little, monkeypatch):
    config = replace(little.config, depth=None)
    flat = SimpleNamespace(stats=little.stats, norm_tags=little.norm_tags, name=little.name, config=config)
    monkeypatch.setattr("molmoact2_model.bench.run._policy", lambda *setting: flat)
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["bench-model", "--random", "small", "--rates", "10,0.1", "--agreement"])
    with pytest.raises(InputError, match="--agreement: made has no depth reasoning"):
        args.func(args)
