# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bench measures what it says: short runs of the real thing, and its arithmetic on known numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest

from molmoact2_bringup.bench import motion
from molmoact2_bringup.bench.command import _bench_of, bench
from molmoact2_bringup.bench.cost import costs
from molmoact2_bringup.bench.reaction import latest_arrival, mean, reactions, worst
from molmoact2_bringup.bench.setpoints import lateness
from molmoact2_bringup.bench.trace import Case, Run
from molmoact2_policy.continuity import least_loss

ANY = Case("splice", 0.2)


@pytest.fixture(scope="module")
def engines():
    """The bench, and an engine that guides the cheap way."""
    return _bench_of("so101_sim")


@pytest.fixture(scope="module")
def made(engines):
    return engines[0]


@pytest.mark.long
def test_a_short_run_leaves_figures_of_every_rule_and_a_plot(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "102")
    monkeypatch.setattr("molmoact2_bringup.bench.command.SYSTEMS", ("so101_double",))
    assert bench("so101_sim", tmp_path, chunks=3, seconds=0.5) == 0
    figures = json.loads((tmp_path / "bench.json").read_text())
    rules = {(f["rule"], f["latency"]) for f in figures["motion"]}
    assert rules >= {(rule, 0.45) for rule in ("upstream", "splice", "rtc", "ensemble")}
    by_rule = {f["rule"]: f for f in figures["motion"] if f["latency"] == 0.45 and not f["smooth"]}
    for rule in ("splice", "rtc", "ensemble"):
        assert by_rule[rule]["acceleration_step"] < 0.1 * by_rule["upstream"]["acceleration_step"]
        assert by_rule[rule]["standing"] == 0.0 < by_rule["upstream"]["standing"]
    assert figures["setpoints"]["count"] > 20
    recorded = {(f["storage"], f["images"]) for f in figures["recorder"] if f["share"] >= 0 and f["received"] > 0}
    assert recorded >= {("mcap", "exact"), ("sqlite3", "exact")}
    for name in ("borders.png", "reaction.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    text = (tmp_path / "bench.md").read_text()
    assert "bound" in text and "in flight" in text and "scripted" in text
    ratios = [line.split("|")[4].strip() for line in text.splitlines() if line.startswith("| 0.45 | ")]
    assert ratios[0] == "×1.000" and all(float(ratio[1:]) < 0.1 for ratio in ratios[1:4])
    for path, transport in zip(figures["ros_path"], ("raw", "compressed"), strict=True):
        assert path["transport"] == transport and path["count"] > 0
        assert all(0 < p50 <= p95 for p50, p95 in path["times"].values())
    system = figures["system"]
    assert system["inferences"] > 3 and system["replayed"] > 0 < system["bare"]
    assert system["unseen"] >= 0 and system["seen"] > 0
    (driver,) = figures["drivers"]["arms"]
    assert figures["drivers"]["camera"]["rate"] > 0
    assert (driver["system"], driver["driver_name"]) == ("so101_double", "so101") and driver["rate"] > 0
    half = {f["rule"]: f["half_mean"] for f in figures["reaction"] if f["latency"] == 0.35}
    assert half["splice"] < half["ensemble"] < half["upstream"]


def test_where_plans_disagree_guided_chunks_meet_the_running_one_closer_and_those_put_back_closest(engines):
    made, cheap = engines
    case = Case("splice", 0.35, wavers=True)
    plain = made.run(case, chunks=6)
    drawn = made.run(replace(case, rule="rtc"), chunks=6)
    put_back = replace(made, backend=cheap).run(replace(case, rule="rtc", replaces=True), chunks=6)
    plain_seam, drawn_seam, put_back_seam = (float(np.median(run.seams)) for run in (plain, drawn, put_back))
    assert plain_seam > 0.9 * motion.DISPLACED
    assert drawn_seam < 0.9 * plain_seam and put_back_seam < 0.6 * plain_seam


def test_an_unknown_system_is_bad_input(tmp_path, capsys):
    assert bench("no_such_system", tmp_path, chunks=3, seconds=0.5) == 2
    assert "so101_sim" in capsys.readouterr().err


def test_a_step_is_found_at_its_border_and_standing_where_nothing_moves():
    setpoints = np.zeros((200, 2))
    setpoints[100:, 1] = 0.5
    run = Run(ANY, 100.0, setpoints, np.array([100]), np.empty(0), np.ones(200), np.empty(0))
    assert run.border_step(1) == pytest.approx(50.0)
    away = Run(ANY, 100.0, setpoints, np.array([20]), np.empty(0), np.ones(200), np.empty(0))
    assert away.border_step(1) == 0.0
    assert run.standing == pytest.approx(198 / 199)


def test_lateness_counts_what_came_late_and_what_was_lost():
    times = np.arange(101) * 10_000_000
    times[50:] += 25_000_000
    late = lateness(times, 10_000_000, "")
    assert (late.p50, late.worst, late.lost, late.count) == (0.0, pytest.approx(0.025), 2, 101)


# --- several requests in flight ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_observations_are_spread_over_the_latency_and_each_chunk_arrives_that_long_after_its_own(made, in_flight):
    run = made.run(Case("splice", 0.6, in_flight=in_flight, smooth=True), chunks=5)
    assert np.diff(run.captures) == pytest.approx(60 / in_flight)
    assert run.borders - 1 - run.captures[motion.WARM_UP :] == pytest.approx(60)


@pytest.mark.parametrize("when_late", ["hold", "slow"])
def test_two_in_flight_lose_about_the_bound_and_one_loses_more(made, when_late):
    one, two = (made.run(Case("splice", 0.8, when_late, k, smooth=True), chunks=6).slowdown for k in (1, 2))
    for lost, in_flight in ((one, 1), (two, 2)):
        assert lost == pytest.approx(least_loss(0.8, made.length, in_flight), abs=0.06)
    assert two < one - 0.15


# --- reactions --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", [Case("splice", 0.2, smooth=True), Case("rtc", 0.35, smooth=True),
                                  Case("ensemble", 0.35, smooth=True), Case("splice", 0.6, "hold", 2, smooth=True)],
                         ids=str)  # fmt: skip
def test_with_overlapping_chunks_a_reaction_begins_within_a_window_of_the_first_chunk_that_knows(made, case):
    found = reactions(made, case)
    limit = latest_arrival(case, made.length, upstream=False)
    assert limit == case.latency + case.latency / case.in_flight <= 2 * case.latency
    assert case.latency < mean(found, "first") < worst(found, "first") <= limit + made.contract.blend_window
    assert worst(found, "half") < np.inf


def test_what_the_reference_does_can_react_later_than_a_chunk_and_its_latency(made):
    case = Case(motion.UPSTREAM, 0.35, smooth=True)
    found = reactions(made, case)
    limit = latest_arrival(case, made.length, upstream=True)
    assert made.length + case.latency < worst(found, "first") <= limit + 0.05
    assert limit == pytest.approx(2 * case.latency + made.length)


def test_before_the_chunk_that_saw_the_change_nothing_differs_and_in_the_end_all_of_it_does(made):
    for reaction in reactions(made, Case("splice", 0.35, smooth=True)):
        until_arrival = round((reaction.between + 0.35) * reaction.hz)
        assert not reaction.difference[:until_arrival].any()
        assert reaction.difference[-1] == pytest.approx(1.0, abs=0.15)


def test_a_scene_that_does_not_change_is_no_reaction(made, monkeypatch):
    monkeypatch.setattr("molmoact2_bringup.bench.motion.DISPLACED", 0.0)
    assert worst(reactions(made, Case("splice", 0.2, smooth=True)), "first") == np.inf


def test_guidance_by_gradient_and_the_cheap_way_are_timed_beside_the_plain_inference(engines):
    plain, gradient, cheap = costs(*engines)
    assert [cost.name for cost in (plain, gradient, cheap)] == ["plain", "rtc gradient", "rtc replace"]
    assert 0 < plain.expert < plain.total and gradient.expert > plain.expert
