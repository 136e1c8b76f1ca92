# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from molmoact2_policy.continuity import Continuity, LatencyForecast, least_loss

DT = 0.1


@pytest.fixture
def continuity():
    continuity = Continuity(dt=DT, first_offset=1.0, margin=0.05)
    continuity.joins_by("arm", "rtc")
    return continuity


def ramp(count=10):
    """Actions (count, 2): the first counts waypoints, the second falls."""
    return np.stack([np.arange(count), -np.arange(count)], axis=1).astype(np.float32)


# --- forecast ---------------------------------------------------------------------------------------------------------
def test_the_cold_first_call_is_left_out_of_the_forecast():
    forecast = LatencyForecast()
    forecast.add(3.0)
    assert forecast.tail is None
    forecast.add(0.2)
    assert forecast.tail == 0.2
    forecast.cold_start()
    forecast.add(3.0)
    assert forecast.tail == 0.2


def test_the_forecast_covers_nearly_all_latencies():
    forecast = LatencyForecast()
    for latency in [9.0, *np.random.default_rng(0).uniform(0.1, 0.3, 200)]:
        forecast.add(latency)
    assert 0.27 < forecast.tail < 0.3


def test_a_scene_that_makes_depth_slower_raises_the_forecast_at_once_and_is_forgotten_slowly():
    forecast = LatencyForecast()
    for latency in [0.1] * 60 + [0.4] * 5:
        forecast.add(latency)
    assert forecast.tail == 0.4
    seen = []
    for _ in range(120):
        forecast.add(0.1)
        seen.append(forecast.tail)
    assert seen[5] == 0.4 and seen[-1] == 0.1


# --- what runs --------------------------------------------------------------------------------------------------------
def test_nothing_is_continued_before_a_controller_accepted_a_chunk(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    assert continuity.prefix(100.3) is None


def test_the_running_chunk_is_resampled_at_the_new_chunks_own_times(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    prefix = continuity.prefix(100.35)
    assert prefix.actions[:, 0] == pytest.approx([3.5, 4.5, 5.5, 6.5, 7.5, 8.5], abs=1e-4)
    assert prefix.actions[:, 1] == pytest.approx(-prefix.actions[:, 0])
    assert prefix.actions.dtype == np.float32


def test_as_many_waypoints_are_frozen_as_were_ever_lost_lately(continuity):
    for chunk_id, consumed in enumerate([3, 5, 2], start=1):
        continuity.delivered(chunk_id, 100.0 + 0.1 * chunk_id, ramp(), 0.2)
        continuity.accepted("arm", chunk_id, consumed)
    assert continuity.prefix(100.4).frozen == 5
    for chunk_id in range(4, 24):
        continuity.delivered(chunk_id, 100.0 + 0.1 * chunk_id, ramp(), 0.2)
        continuity.accepted("arm", chunk_id, 1)
    assert continuity.prefix(102.4).frozen == 1


def test_no_more_is_frozen_than_the_running_chunk_still_has(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 9)
    prefix = continuity.prefix(100.8)
    assert len(prefix.actions) == 2 and prefix.frozen == 2


def test_a_chunk_that_was_refused_is_not_what_runs(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    continuity.delivered(2, 100.2, ramp() + 50, 0.2)
    assert continuity.prefix(100.3).actions.max() < 10


def test_a_chunk_that_is_over_is_not_continued(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    assert continuity.prefix(101.05) is None


def test_what_controllers_say_of_chunks_of_another_process_counts_for_nothing(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 77, 9)
    assert continuity.prefix(100.1) is None


def test_a_chunk_that_a_controller_has_let_go_of_is_not_continued(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    continuity.stopped()
    assert continuity.prefix(100.1) is None


def test_a_new_episode_continues_nothing(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    continuity.forget()
    assert continuity.prefix(100.1) is None and continuity.latest_start() is None


def test_a_chunk_is_left_as_it_is_unless_every_controller_joins_by_real_time_chunking(continuity):
    continuity.delivered(1, 100.0, ramp(), 0.2)
    continuity.accepted("arm", 1, 2)
    continuity.joins_by("other_arm", "splice")
    assert continuity.prefix(100.3) is None
    continuity.joins_by("other_arm", "rtc")
    assert continuity.prefix(100.3) is not None


# --- schedule ---------------------------------------------------------------------------------------------------------
def test_the_next_inference_begins_early_enough_for_its_chunk_to_arrive_in_time(continuity):
    continuity.delivered(1, 100.0, ramp(), 9.0)
    assert continuity.latest_start() is None    # the only latency known is the cold one
    continuity.delivered(2, 100.5, ramp(), 0.3)
    assert continuity.latest_start() == pytest.approx(100.5 + 1.0 - 0.05 - 0.3)


@pytest.mark.parametrize(("latency", "share"), [(0.3, 0.0), (0.475, 0.0), (0.8, 0.65 / 0.8)])
def test_the_standing_share_is_that_of_one_inference_at_a_time(continuity, latency, share):
    for chunk_id in (1, 2):
        continuity.delivered(chunk_id, 100.0 + chunk_id, ramp(), latency)
    assert continuity.standing_share() == pytest.approx(share)


@pytest.mark.parametrize(("in_flight", "longest"), [(1, 0.5), (2, 2 / 3), (4, 0.8)])
def test_nothing_is_lost_while_a_chunk_reaches_past_the_arrival_of_the_next(in_flight, longest):
    assert least_loss(longest, 1.0, in_flight) == pytest.approx(0.0)
    assert least_loss(longest + 0.05, 1.0, in_flight) > 0.05


def test_all_is_lost_where_chunks_are_over_when_they_come():
    assert least_loss(1.2, 1.0) == least_loss(1.2, 1.0, in_flight=8) == 1.0


def test_two_in_flight_lose_less_than_one():
    assert least_loss(0.8, 1.0) == pytest.approx(0.75)
    assert least_loss(0.8, 1.0, in_flight=2) == pytest.approx(0.5)
