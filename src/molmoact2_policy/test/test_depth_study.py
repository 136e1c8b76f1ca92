# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 depth-study` over a run that the real policy node made over DDS."""

import json

import pytest
from bag_samples import TRACES, copied, record_a_run

from molmoact2_contract import cli
from molmoact2_policy.bags.bag import Bag

INFERENCES = 5


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return record_a_run(tmp_path_factory.mktemp("run") / "bag", INFERENCES)


@pytest.fixture
def study(tmp_path, capsys):
    def run(path, *arguments):
        code = cli.main(["depth-study", str(path), "--out", str(tmp_path / "out"), *arguments])
        told = tmp_path / "out/depth_study.json"
        return code, json.loads(told.read_text()) if told.exists() else None, "".join(capsys.readouterr())

    return run


def rule(told, policy, threshold, period):
    wanted = {"cache_policy": policy, "threshold": threshold, "period": period}
    (found,) = (figures for figures in told["rules"] if wanted.items() <= figures.items())
    return found


def test_the_recorded_rule_does_again_what_the_traces_say_and_full_passes_miss_nothing(bag, study, tmp_path):
    with Bag(bag) as opened:
        traces = [trace for _, _, trace, _ in opened.messages({TRACES})]
    code, told, printed = study(bag, "--thresholds", "0.99,0.996", "--periods", "0,1")
    assert code == 0, printed
    assert told["inferences"] == len(traces) and told["left_out"] == []
    recorded = rule(told, "bounded", 0.996, 0)
    assert recorded["refreshed"] == pytest.approx(sum(sum(t.refreshed) for t in traces) / 100 / len(traces))
    assert recorded["decoder_steps"] == pytest.approx(sum(t.decoder_steps for t in traces) / len(traces))
    assert recorded["refreshed"] < 1.0
    always = rule(told, "bounded", 0.996, 1)
    assert (always["refreshed"], always["stale"], always["differing"], always["forced"]) == (1.0, 0.0, 0.0, 1.0)
    assert always["decoder_steps"] == told["full_pass_decoder_steps"]
    assert rule(told, "reference", 0.99, 0)["refreshed"] <= recorded["refreshed"]
    assert (tmp_path / "out/depth_study.png").stat().st_size > 10_000


def test_a_bag_without_traces_is_studied_image_by_image_when_it_is_said_what_was_to_be_done(bag, study, tmp_path):
    bare = copied(bag, tmp_path / "bare", lambda topic, message: message, left_out=(TRACES,))
    code, _, printed = study(bare)
    assert code == 2 and "--fresh" in printed
    code, _, printed = study(bare, "--fresh")
    assert code == 2 and "--instruction" in printed
    code, told, printed = study(
        bare, "--fresh", "--instruction", "pick up the cube", "--thresholds", "0.996", "--periods", "0"
    )
    assert code == 0, printed
    assert told["inferences"] > INFERENCES


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["--thresholds", "1.5"], "similarity_threshold is 1.5"), (["--checkpoint", "nowhere"], "nowhere")],
)
def test_what_cannot_be_studied_is_named(bag, study, arguments, why):
    code, _, printed = study(bag, *arguments)
    assert code == 2 and why in printed and "Traceback" not in printed
