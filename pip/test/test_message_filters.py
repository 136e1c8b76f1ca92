# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What users of message_filters may rely on."""

import random

import pytest
from geometry_msgs.msg import PointStamped
from message_filters import ApproximateTimeSynchronizer, Cache, SimpleFilter, TimeSynchronizer
from rclpy.clock import ClockType, ROSClock
from rclpy.time import Time
from std_msgs.msg import Header, String

MS = 1_000_000


def ros_time(ms: float) -> Time:
    return Time(nanoseconds=int(ms * MS), clock_type=ClockType.ROS_TIME)


def message(ms: float, name: str = "") -> PointStamped:
    return PointStamped(header=Header(stamp=ros_time(ms).to_msg(), frame_id=name))


def nanoseconds(msg: PointStamped) -> int:
    return Time.from_msg(msg.header.stamp).nanoseconds


def milliseconds(messages) -> list[int]:
    return [nanoseconds(msg) // MS for msg in messages]


def inputs_of(count: int) -> list[SimpleFilter]:
    return [SimpleFilter() for _ in range(count)]


def collected(source: SimpleFilter) -> list[tuple]:
    sets: list[tuple] = []
    source.registerCallback(lambda *messages: sets.append(messages))
    return sets


# --- SimpleFilter -------------------------------------------------------------------------------------------
def test_callbacks_are_called_in_order_with_the_messages_and_then_their_own_arguments():
    source, calls = SimpleFilter(), []
    first = source.registerCallback(lambda *args: calls.append(("first", *args)), "own", 7)
    second = source.registerCallback(lambda *args: calls.append(("second", *args)))
    source.signalMessage("a", "b")
    assert calls == [("first", "a", "b", "own", 7), ("second", "a", "b")]
    assert first != second


def test_a_callback_may_register_another_which_hears_the_next_message():
    source, calls = SimpleFilter(), []
    source.registerCallback(lambda msg: source.registerCallback(calls.append))
    source.signalMessage(1)
    assert calls == []
    source.signalMessage(2)
    assert calls == [2]


# --- Cache --------------------------------------------------------------------------------------------------
@pytest.fixture
def cache() -> Cache:
    source = SimpleFilter()
    held = Cache(source, cache_size=4)
    for ms in (10, 20, 30, 40, 50):
        source.signalMessage(message(ms))
    return held


def test_a_cache_holds_the_last_messages_and_forgets_the_oldest(cache):
    assert milliseconds(cache.getInterval(ros_time(0), ros_time(100))) == [20, 30, 40, 50]
    assert cache.getOldestTime() == ros_time(20)
    assert cache.getLastestTime() == cache.getLatestTime() == ros_time(50)
    assert milliseconds([cache.getLast()]) == [50]


def test_an_interval_includes_both_its_ends_and_must_not_end_before_it_begins(cache):
    assert milliseconds(cache.getInterval(ros_time(20), ros_time(40))) == [20, 30, 40]
    assert cache.getInterval(ros_time(21), ros_time(29)) == []
    with pytest.raises(AssertionError):
        cache.getInterval(ros_time(40), ros_time(20))


def test_a_surrounding_interval_reaches_to_the_neighbours_where_there_are_any(cache):
    assert milliseconds(cache.getSurroundingInterval(ros_time(32), ros_time(33))) == [30, 40]
    assert milliseconds(cache.getSurroundingInterval(ros_time(30), ros_time(40))) == [30, 40]
    assert milliseconds(cache.getSurroundingInterval(ros_time(5), ros_time(22))) == [20, 30]
    assert milliseconds(cache.getSurroundingInterval(ros_time(45), ros_time(99))) == [40, 50]


def test_neighbours_of_a_time_include_the_message_at_that_time_and_are_none_beyond_the_ends(cache):
    assert milliseconds([cache.getElemAfterTime(ros_time(31)), cache.getElemAfterTime(ros_time(30))]) == [
        40,
        30,
    ]
    assert milliseconds([cache.getElemBeforeTime(ros_time(39)), cache.getElemBeforeTime(ros_time(40))]) == [
        30,
        40,
    ]
    assert cache.getElemAfterTime(ros_time(51)) is None
    assert cache.getElemBeforeTime(ros_time(19)) is None


def test_an_empty_cache_answers_none():
    cache = Cache(SimpleFilter(), 3)
    assert (cache.getLast(), cache.getLastestTime(), cache.getOldestTime()) == (None, None, None)
    assert cache.getInterval(ros_time(0), ros_time(1)) == []
    assert cache.getSurroundingInterval(ros_time(0), ros_time(1)) == []


def test_a_cache_passes_on_what_it_takes_in():
    source = SimpleFilter()
    cache = Cache(source, 1)
    out, msg = collected(cache), message(5)
    source.signalMessage(msg)
    assert out == [(msg,)]


def test_a_message_without_a_stamp_is_dropped_unless_headerless_is_allowed_and_then_has_its_time_of_arrival():
    source = SimpleFilter()
    strict, lenient = Cache(source, 3), Cache(source, 3, allow_headerless=True)
    out = collected(strict)
    before = ROSClock().now()
    source.signalMessage(String(data="no header"))
    assert strict.getLast() is None and out == []
    assert lenient.getLast() == String(data="no header")
    assert before <= lenient.getLastestTime() <= ROSClock().now()


def test_a_cache_or_a_queue_without_room_is_refused():
    with pytest.raises(ValueError, match="cache_size is 0"):
        Cache(SimpleFilter(), 0)
    with pytest.raises(ValueError, match="queue_size is 0"):
        TimeSynchronizer(inputs_of(2), 0)


# --- TimeSynchronizer ---------------------------------------------------------------------------------------
def test_messages_with_equal_stamps_come_out_together_in_the_order_of_the_inputs():
    inputs = inputs_of(3)
    sets = collected(TimeSynchronizer(inputs, 10))
    a, b, c = message(5, "a"), message(5, "b"), message(5, "c")
    inputs[2].signalMessage(c)
    inputs[0].signalMessage(a)
    assert sets == []
    inputs[1].signalMessage(b)
    assert sets == [(a, b, c)]


def test_a_nanosecond_of_difference_is_not_equal():
    inputs = inputs_of(2)
    sets = collected(TimeSynchronizer(inputs, 10))
    inputs[0].signalMessage(message(5))
    inputs[1].signalMessage(message(5 + 1e-6))
    assert sets == []


def test_scrambled_messages_find_each_other_and_the_full_queue_forgets_the_oldest_stamp():
    rng = random.Random(1)
    inputs = inputs_of(2)
    sets = collected(TimeSynchronizer(inputs, 10))
    for ms in rng.sample(range(20), 20):
        inputs[0].signalMessage(message(ms))
    for ms in rng.sample(range(20), 20):
        inputs[1].signalMessage(message(ms))
    assert sorted(milliseconds(first for first, _ in sets)) == list(range(10, 20))
    assert all(nanoseconds(first) == nanoseconds(second) for first, second in sets)


def test_of_two_messages_with_one_stamp_the_later_is_taken():
    inputs = inputs_of(2)
    sets = collected(TimeSynchronizer(inputs, 10))
    inputs[0].signalMessage(message(5, "earlier"))
    inputs[0].signalMessage(message(5, "later"))
    inputs[1].signalMessage(message(5))
    assert [first.header.frame_id for first, _ in sets] == ["later"]


def test_a_callback_that_feeds_an_input_again_does_not_lock_up_and_one_that_fails_does_not_end_matching():
    inputs = inputs_of(2)
    sync = TimeSynchronizer(inputs, 10)
    seen = []

    def feed_once_then_fail(first, _):
        seen.append(nanoseconds(first) // MS)
        if len(seen) == 1:
            for source in inputs:
                source.signalMessage(message(6))
        elif len(seen) == 2:
            raise RuntimeError("a user's mistake")

    sync.registerCallback(feed_once_then_fail)
    inputs[0].signalMessage(message(5))
    with pytest.raises(RuntimeError, match="a user's mistake"):
        inputs[1].signalMessage(message(5))
    for source in inputs:
        source.signalMessage(message(7))
    assert seen == [5, 6, 7]


# --- ApproximateTimeSynchronizer ----------------------------------------------------------------------------
def test_the_closest_message_within_slop_is_taken():
    inputs = inputs_of(2)
    sets = collected(ApproximateTimeSynchronizer(inputs, 10, 0.010))
    for ms in (0, 8, 13, 30):
        inputs[0].signalMessage(message(ms))
    inputs[1].signalMessage(message(12))
    assert [milliseconds(each) for each in sets] == [[13, 12]]


def test_messages_exactly_slop_apart_are_no_set():
    inputs = inputs_of(2)
    sets = collected(ApproximateTimeSynchronizer(inputs, 10, 0.010))
    inputs[0].signalMessage(message(0))
    inputs[1].signalMessage(message(10))
    assert sets == []
    inputs[1].signalMessage(message(10 - 1e-6))
    assert len(sets) == 1


def test_when_the_closest_of_two_inputs_lie_too_far_apart_the_next_closest_is_tried():
    inputs = inputs_of(3)
    sets = collected(ApproximateTimeSynchronizer(inputs, 10, 0.010))
    inputs[0].signalMessage(message(94))
    inputs[1].signalMessage(message(97))
    inputs[1].signalMessage(message(105))
    inputs[1].signalMessage(message(96))
    inputs[2].signalMessage(message(102))
    # 105 is closest to 102 but 11 from 94.
    assert [milliseconds(each) for each in sets] == [[94, 97, 102]]


def test_a_message_older_than_a_full_queue_is_forgotten_and_matches_nothing():
    inputs = inputs_of(2)
    sets = collected(ApproximateTimeSynchronizer(inputs, 1, 0.010))
    inputs[0].signalMessage(message(100))
    inputs[1].signalMessage(message(50))
    inputs[0].signalMessage(message(50))
    assert sets == []


def test_messages_without_a_stamp_are_matched_by_arrival_only_if_that_is_allowed():
    for allowed in (False, True):
        inputs = inputs_of(2)
        sets = collected(ApproximateTimeSynchronizer(inputs, 5, 3600.0, allow_headerless=allowed))
        stamped = PointStamped(header=Header(stamp=ROSClock().now().to_msg()))
        inputs[0].signalMessage(stamped)
        inputs[1].signalMessage(String(data="now"))
        assert sets == ([(stamped, String(data="now"))] if allowed else [])


def random_stream(seed: int, count: int, ordered: bool) -> list[tuple[int, PointStamped]]:
    """(input, message) by arrival: jittered rates, gaps and, unless ordered, delays that differ by input."""
    rng = random.Random(seed)
    stream = []
    for index in range(count):
        period, at, delay = rng.uniform(10, 50), rng.uniform(0, 50), rng.uniform(0, 80)
        for _ in range(60):
            at += period * rng.uniform(0.5, 1.5) * (4 if rng.random() < 0.05 else 1)
            arrival = at if ordered else at + delay + rng.uniform(0, 40)
            stream.append((arrival, index, message(at)))
    return [(index, msg) for _, index, msg in sorted(stream, key=lambda entry: entry[0])]


@pytest.mark.parametrize("seed", range(40))
def test_sets_lie_within_slop_hold_the_newest_arrival_and_never_use_a_message_twice(seed):
    count, slop_ms = 2 + seed % 3, 5 + seed
    inputs = inputs_of(count)
    sync = ApproximateTimeSynchronizer(inputs, 1 + seed % 10, slop_ms / 1000)
    sets, used = collected(sync), set()
    for index, msg in random_stream(seed, count, ordered=seed % 2 == 0):
        before = len(sets)
        inputs[index].signalMessage(msg)
        assert len(sets) - before in (0, 1)
        for each in sets[before:]:
            stamps = [nanoseconds(entry) for entry in each]
            assert max(stamps) - min(stamps) < slop_ms * MS
            assert each[index] is msg
            assert used.isdisjoint(map(id, each))
            used.update(map(id, each))
        assert all(len(queue) <= sync.queue_size for queue in sync.queues)


def test_the_random_streams_do_make_sets():
    inputs = inputs_of(2)
    sets = collected(ApproximateTimeSynchronizer(inputs, 10, 0.030))
    for index, msg in random_stream(3, 2, ordered=False):
        inputs[index].signalMessage(msg)
    assert len(sets) > 20


@pytest.mark.parametrize("seed", range(0, 20))
def test_when_messages_arrive_in_order_of_stamp_sets_end_later_and_later(seed):
    inputs = inputs_of(3)
    sets = collected(ApproximateTimeSynchronizer(inputs, 10, 0.040))
    for index, msg in random_stream(seed, 3, ordered=True):
        inputs[index].signalMessage(msg)
    ends = [max(nanoseconds(msg) for msg in each) for each in sets]
    assert len(ends) > 5
    assert ends == sorted(set(ends))


def test_with_equal_stamps_and_room_enough_approximate_and_exact_agree():
    for seed in range(10):
        rng = random.Random(seed)
        arrivals = [(index, ms) for index in range(3) for ms in range(0, 600, 30)]
        rng.shuffle(arrivals)
        exact_inputs, near_inputs = inputs_of(3), inputs_of(3)
        exact = collected(TimeSynchronizer(exact_inputs, 20))
        near = collected(ApproximateTimeSynchronizer(near_inputs, 20, 0.010))
        for index, ms in arrivals:
            msg = message(ms)
            exact_inputs[index].signalMessage(msg)
            near_inputs[index].signalMessage(msg)
        assert len(exact) == 20
        assert exact == near
