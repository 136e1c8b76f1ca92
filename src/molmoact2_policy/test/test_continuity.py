# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from molmoact2_policy.continuity import Continuity, Heard, LatencyForecast, least_loss

DT = 0.1


class Robot:
    """What is sent, and what its controller says of it."""

    def __init__(self):
        self.continuity = Continuity(dt=DT, first_offset=1.0, margin=0.05)
        self.prefix, self.latest_start = self.continuity.prefix, self.continuity.latest_start

    def says(self, chunk_id: int, consumed: int = 2, arm: str = "arm", rule: str = "rtc", episode=True, **what) -> None:
        self.continuity.hear(arm, Heard(rule, chunk_id, consumed, **what), episode)

    def sends(self, chunk_id: int, stamp: float, actions=None, latency=0.2, consumed: int | None = None) -> None:
        """consumed: as soon as it is accepted; None where nothing is heard of it."""
        self.continuity.delivered(chunk_id, stamp, ramp() if actions is None else actions, latency)
        if consumed is not None:
            self.says(chunk_id, consumed, latency=latency)


@pytest.fixture
def robot():
    return Robot()


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
def test_nothing_is_continued_before_a_controller_follows_a_chunk(robot):
    robot.sends(1, 100.0)
    assert robot.prefix(100.3) is None
    robot.says(0)
    assert robot.prefix(100.3) is None


def test_the_running_chunk_is_resampled_at_the_new_chunks_own_times(robot):
    robot.sends(1, 100.0, consumed=2)
    prefix = robot.prefix(100.35)
    assert prefix.actions[:, 0] == pytest.approx([3.5, 4.5, 5.5, 6.5, 7.5, 8.5], abs=1e-4)
    assert prefix.actions[:, 1] == pytest.approx(-prefix.actions[:, 0])
    assert prefix.actions.dtype == np.float32


@pytest.mark.parametrize(("stamp", "known", "overlap"), [(100.3, 7, 7), (100.35, 6, 7), (100.4, 6, 6)])
def test_the_overlap_counts_whole_waypoints_between_two_stamps(robot, stamp, known, overlap):
    robot.sends(1, 100.0, consumed=2)
    prefix = robot.prefix(stamp)
    assert (len(prefix.actions), prefix.overlap) == (known, overlap)


def test_a_chunk_that_was_sent_is_taken_to_run_before_its_acceptance_is_heard(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.sends(2, 100.2, ramp() + 50)
    assert robot.prefix(100.3).actions.min() > 10


def test_a_chunk_that_was_refused_is_not_what_runs(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.sends(2, 100.2, ramp() + 50)
    robot.says(1, refused_id=2)
    assert robot.prefix(100.3).actions.max() < 10


def test_what_was_refused_before_the_policy_began_says_nothing_of_its_own_chunk_of_that_number(robot):
    robot.says(0, refused_id=2)
    robot.sends(1, 100.0)
    robot.says(1, refused_id=2)
    robot.sends(2, 100.2, ramp() + 50)
    assert robot.prefix(100.3).actions.min() > 10


def test_of_several_arms_the_one_that_consumed_most_says_how_much_is_frozen(robot):
    for chunk_id in (1, 2):
        robot.sends(chunk_id, 100.0 + 0.1 * chunk_id, latency=0.5)
        robot.says(chunk_id, 3, arm="left", latency=0.5)
        robot.says(chunk_id, 5, arm="right", latency=0.5)
    robot.sends(3, 100.3, latency=0.5)
    assert robot.prefix(100.4).frozen == 5


def test_a_path_that_is_slowed_is_continued_where_it_is(robot):
    robot.sends(1, 100.0)
    robot.says(1, lag=0.2)
    assert robot.prefix(100.3).actions[0, 0] == pytest.approx(1.0, abs=1e-4)


def test_as_many_waypoints_are_frozen_as_were_lost_lately_but_for_the_cold_first_chunk(robot):
    for chunk_id, consumed in enumerate([9, 3, 5, 2], start=1):
        robot.sends(chunk_id, 100.0 + 0.1 * chunk_id, consumed=consumed, latency=0.5)
    assert robot.prefix(100.5).frozen == 5
    for chunk_id in range(5, 25):
        robot.sends(chunk_id, 100.0 + 0.1 * chunk_id, consumed=1, latency=0.5)
    assert robot.prefix(102.5).frozen == 1


def test_one_slow_chunk_freezes_no_more_than_latency_explains(robot):
    for chunk_id in range(1, 40):
        robot.sends(chunk_id, 100.0 + 0.1 * chunk_id, consumed=1, latency=0.1)
    robot.sends(40, 104.0, consumed=9, latency=0.1)
    assert robot.prefix(104.0).frozen == 2


def test_no_more_is_frozen_than_the_running_chunk_still_has(robot):
    for chunk_id in (1, 2):
        robot.sends(chunk_id, 100.0, consumed=9, latency=0.9)
    prefix = robot.prefix(100.8)
    assert len(prefix.actions) == 2 and prefix.frozen == 2


def test_a_chunk_that_is_over_is_not_continued(robot):
    robot.sends(1, 100.0, consumed=2)
    assert robot.prefix(101.05) is None


def test_what_controllers_say_of_chunks_of_another_process_counts_for_nothing(robot):
    robot.sends(1, 100.0)
    robot.says(77, episode=False)
    assert robot.prefix(100.1) is None


def test_a_chunk_that_one_of_two_controllers_has_let_go_of_is_not_continued_until_it_follows_again(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.says(1, arm="other")
    assert robot.prefix(100.1) is not None
    robot.says(0, arm="other")
    assert robot.prefix(100.1) is None
    robot.says(1, arm="other")
    assert robot.prefix(100.1) is not None


def test_a_new_episode_continues_nothing(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.continuity.forget()
    assert robot.prefix(100.1) is None and robot.latest_start(100.1) is None


def test_a_chunk_is_left_as_it_is_unless_every_controller_joins_by_real_time_chunking(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.says(1, arm="other_arm", rule="splice")
    assert robot.prefix(100.3) is None
    robot.says(1, arm="other_arm", rule="rtc")
    assert robot.prefix(100.3) is not None


# --- schedule ---------------------------------------------------------------------------------------------------------
def test_the_next_inference_begins_early_enough_for_its_chunk_to_arrive_in_time(robot):
    robot.sends(1, 100.0, latency=9.0, consumed=2)
    assert robot.latest_start(100.0) is None    # the only latency known is the cold one
    robot.sends(2, 100.5, latency=0.3, consumed=2)
    assert robot.latest_start(100.6) == pytest.approx(100.5 + 1.0 - 0.05 - 0.3)


def test_the_way_to_the_controller_counts_as_latency(robot):
    robot.sends(1, 100.0, consumed=2)
    robot.sends(2, 100.5, latency=0.3)
    robot.says(2, latency=0.5)
    assert robot.latest_start(100.6) == pytest.approx(100.5 + 1.0 - 0.05 - 0.5)


def test_a_refused_chunk_gives_no_time(robot):
    for chunk_id in (1, 2):
        robot.sends(chunk_id, 100.0, consumed=2)
    robot.sends(3, 100.4)
    robot.says(2, refused_id=3)
    assert robot.latest_start(100.5) == pytest.approx(100.0 + 1.0 - 0.05 - 0.2)


def test_where_nothing_runs_any_more_nothing_is_urgent(robot):
    for chunk_id in (1, 2):
        robot.sends(chunk_id, 100.0, consumed=2)
    assert robot.latest_start(101.2) is None


@pytest.mark.parametrize(("latency", "share"), [(0.3, 0.0), (0.475, 0.0), (0.8, 0.65 / 0.8)])
def test_the_standing_share_is_that_of_one_inference_at_a_time(robot, latency, share):
    for chunk_id in (1, 2):
        robot.sends(chunk_id, 100.0 + chunk_id, latency=latency, consumed=2)
    assert robot.continuity.standing_share() == pytest.approx(share)


@pytest.mark.parametrize(("in_flight", "longest"), [(1, 0.5), (2, 2 / 3), (4, 0.8)])
def test_nothing_is_lost_while_a_chunk_reaches_past_the_arrival_of_the_next(in_flight, longest):
    assert least_loss(longest, 1.0, in_flight) == pytest.approx(0.0)
    assert least_loss(longest + 0.05, 1.0, in_flight) > 0.05


def test_all_is_lost_where_chunks_are_over_when_they_come():
    assert least_loss(1.2, 1.0) == least_loss(1.2, 1.0, in_flight=8) == 1.0


def test_two_in_flight_lose_less_than_one():
    assert least_loss(0.8, 1.0) == pytest.approx(0.75)
    assert least_loss(0.8, 1.0, in_flight=2) == pytest.approx(0.5)
