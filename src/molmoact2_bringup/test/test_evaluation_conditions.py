# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Which conditions an evaluation tries, and what its report says of several."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from molmoact2_bringup.evaluation.attempts import AS_IT_IS, Attempt, Condition, compared, wilson
from molmoact2_bringup.evaluation.report import FAST, LIVE, Found, write_results
from molmoact2_bringup.evaluation.simulated import SimulatedScene
from molmoact2_contract import load_system

ASKED = dict.fromkeys(("latency", "joining", "when_late", "depth", "cache"), "") | {"task": "touch", "cameras": "none"}


@pytest.fixture(scope="module")
def scene() -> SimulatedScene:
    return SimulatedScene(load_system("so101_sim"))


def test_each_policy_of_the_cache_is_tried_where_depth_is_adaptive_and_once_elsewhere(scene):
    asked = {"latency": "", "joining": "", "when_late": "", "depth": "off,adaptive", "cache": "bounded,reference"}
    conditions = scene.conditions({"task": "pick", "cameras": "none,dark", **asked})
    tried = [(c.depth, c.cache, c.disturbance) for c in conditions]
    assert tried == [
        ("off", "bounded", "none"), ("off", "bounded", "dark"), ("adaptive", "bounded", "none"),
        ("adaptive", "bounded", "dark"), ("adaptive", "reference", "none"), ("adaptive", "reference", "dark"),
    ]


def test_every_condition_can_be_made_of_a_system_whose_file_says_nothing_of_it(scene):
    asked = ASKED | {"cache": "reference", "latency": "0.8,as-it-is", "depth": "adaptive"}
    systems = [scene.under(condition, "", 1) for condition in scene.conditions(asked)]
    policies = [system.process("policy").parameters for system in systems]
    assert [p["cache_policy"] for p in policies] == ["reference"] * 2
    assert [p["least_latency"] for p in policies] == [0.8, 0.0]


def ends(both: int, lost: int, won: int, neither: int) -> list[dict[int, bool]]:
    pairs = [(True, True)] * both + [(True, False)] * lost + [(False, True)] * won + [(False, False)] * neither
    return [dict(enumerate(one)) for one in zip(*pairs, strict=True)]


def test_of_pairs_that_have_nothing_to_do_with_each_other_the_interval_is_that_of_two_samples():
    result = compared(*ends(32, 32, 8, 8))
    (low, high), (other_low, other_high) = wilson(64, 80), wilson(40, 80)
    assert result.change == pytest.approx(-0.3) and (result.same, result.scenes) == (40, 80)
    assert result.interval[0] == pytest.approx(-0.3 - math.hypot(0.5 - other_low, high - 0.8))
    assert result.interval[1] == pytest.approx(-0.3 + math.hypot(other_high - 0.5, 0.8 - low))


def test_the_more_scenes_end_the_same_way_the_narrower_is_the_interval_of_their_difference():
    alike, apart = compared(*ends(60, 2, 4, 34)), compared(*ends(42, 20, 22, 16))
    assert alike.change == pytest.approx(apart.change) == pytest.approx(0.02)
    assert np.ptp(alike.interval) < 0.5 * np.ptp(apart.interval)
    assert alike.interval[0] < 0 < alike.interval[1]
    assert compared({1: True}, {2: True}) is None and compared({1: True, 2: False}, {1: True}).scenes == 1


def test_the_report_says_how_far_the_modes_agree_and_which_scenes_are_doubtful(tmp_path):
    def attempts(*successes, doubtful=False):
        return [Attempt(seed, "red", "x", success, doubtful=doubtful) for seed, success in enumerate(successes)]

    condition, table = Condition("touch", 0.3), None
    found = [
        Found(condition, FAST, attempts(True, True, False, True)),
        Found(condition, LIVE, attempts(True, False, False, True, doubtful=True)),
    ]
    write_results(tmp_path, {"title": "t"}, found, table)
    (row,) = json.loads((tmp_path / "summary.json").read_text())["modes"]
    assert (row["fast"], row["live"], row["same"], row["difference"]) == ([3, 4], [2, 4], [3, 4], -0.25)
    page = (tmp_path / "report.html").read_text()
    assert "How far fast and live agree" in page and "3 of 4" in page and "0, 1, 2, 3" in page


def test_a_condition_that_is_asked_for_beside_others_differs_in_what_it_says_alone(scene):
    asked = ASKED | {"task": "touch,pick", "latency": "0.35,0.45"}
    also = ["depth=full", "latency=0.8,when-late=slow", "cameras=dark", "latency=as-it-is", "latency=0.45"]
    found = scene.conditions(asked, also)
    assert len(found) == 2 * (2 + 4) == len(set(found))    # 0.45 is there already
    own = Condition("touch", 0.35)
    assert [c for c in found if c.task == "touch"] == [
        own, Condition("touch", 0.45), Condition("touch", 0.35, depth="full"),
        Condition("touch", 0.8, when_late="slow"), Condition("touch", 0.35, disturbance="dark"),
        Condition("touch", AS_IT_IS),
    ]    # fmt: skip


def test_a_task_that_is_asked_for_beside_others_is_tried_once_and_not_with_their_further_conditions(scene):
    found = scene.conditions(ASKED | {"task": "touch,pick"}, ["task=tray", "depth=full", "task=pick,latency=0.8"])
    first = Condition("touch", found[0].latency)
    assert found == [
        first, replace(first, task="pick"), replace(first, task="tray"), replace(first, depth="full"),
        replace(first, task="pick", depth="full"), replace(first, task="pick", latency=0.8),
    ]    # fmt: skip


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ("depth", "'depth' is not NAME=VALUE"),
        ("depth=", "'depth=' is not NAME=VALUE"),
        ("scenes=3", "the names are: latency, joining, when-late, depth, cache, task, cameras"),
        ("task=fly", "--task: there is no 'fly'"),
        ("latency=0.8,latency=0.6", "each name once"),
        ("depth=full,cache=reference", "without depth adaptive, and so without a cache"),
        ("depth=deep", "--depth: there is no 'deep'"),
        ("latency=7", "after which controllers refuse a chunk"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_by_name(scene, also, said):
    with pytest.raises(ValueError, match=said):
        scene.conditions(ASKED, [also])


def test_the_report_compares_each_condition_with_the_first_of_its_task_and_mode(tmp_path):
    def found(task, depth, mode, successes, steps):
        attempts = [Attempt(seed, "red", "x", success=seed < successes, steps=[steps]) for seed in range(10)]
        return Found(Condition(task, depth=depth), mode, attempts)

    rows = [found("touch", "full", FAST, 8, 100), found("pick", "full", FAST, 2, 100),
            found("touch", "adaptive", FAST, 9, 25), found("touch", "adaptive", LIVE, 5, 30)]    # fmt: skip
    write_results(tmp_path, {"title": "t"}, rows, None)
    (row,) = json.loads((tmp_path / "summary.json").read_text())["against_first"]
    assert (row["condition"], row["first"]) == (rows[2].condition.name, rows[0].condition.name)
    assert row["difference"] == pytest.approx(0.1) and row["steps"] == 0.25
    assert "<td>25 %</td><td>400 %</td>" in (tmp_path / "report.html").read_text()
    assert row["interval"][0] < 0 < row["interval"][1]
    assert "+10 points" in (tmp_path / "report.html").read_text()
