# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np

from camera_driver.watch import FIRST_FRAME, StreamWatch


def image(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def watched(rate: float = 10.0, frozen_after: float = 1.0) -> StreamWatch:
    watch = StreamWatch(rate, 0.5, frozen_after)
    watch.opened(100.0)
    return watch


def test_a_stream_that_goes_on_and_changes_is_no_trouble():
    watch = watched()
    for k in range(50):
        watch.frame(100 + k / 10, image(k))
        assert watch.trouble(100 + k / 10) == ""
    assert not watch.slow(105.0)


def test_half_a_second_without_a_frame_is_a_stall():
    watch = watched()
    watch.frame(101.0, image(1))
    assert watch.trouble(101.5) == ""
    assert watch.trouble(101.6) == "stalls: no frame for 0.6 s"


def test_a_camera_may_take_its_time_for_the_first_frame_but_not_for_ever():
    watch = watched()
    assert watch.trouble(100 + FIRST_FRAME) == ""
    assert "gives no frame" in watch.trouble(100.1 + FIRST_FRAME)


def test_equal_bytes_for_a_second_are_frozen_and_stay_so_until_they_change():
    watch = watched()
    for k in range(11):
        watch.frame(101 + k / 10, image(7))
        assert watch.trouble(101 + k / 10) == ""
    watch.frame(102.1, image(7))
    assert "is frozen: the same bytes for 1.1 s" in watch.trouble(102.1)
    watch.opened(103.0)
    for now in (103.1, 103.6, 104.0):
        watch.frame(now, image(7))
        assert watch.frozen and watch.trouble(now) == ""    # it has a second to show something else
    watch.frame(104.1, image(7))
    assert "is frozen: the same bytes for 3.1 s" in watch.trouble(104.1)
    watch.frame(104.2, image(8))
    assert watch.trouble(104.2) == "" and not watch.frozen


def test_a_frozen_camera_that_is_black_is_told_to_look_at_its_lens():
    watch = watched()
    for k in range(13):
        watch.frame(101 + k / 10, image(0))
    assert "is its lens covered?" in watch.trouble(102.2)


def test_a_camera_that_writes_each_image_into_the_same_memory_is_not_called_frozen():
    watch, memory = watched(), image(0)
    for k in range(30):
        memory[:] = k
        watch.frame(101 + k / 10, memory)
    assert watch.trouble(103.9) == ""


def test_what_may_stand_still_is_not_frozen():
    watch = watched(frozen_after=0.0)
    for k in range(100):
        watch.frame(101 + k / 10, image(7))
    assert watch.trouble(110.9) == ""


def test_half_the_rate_asked_for_is_slow_but_not_before_two_seconds():
    watch = watched(rate=10.0)
    for k in range(30):
        now = 100 + k / 5
        watch.frame(now, image(k))
        assert watch.slow(now) == (now > 102.0)
    assert abs(watch.measured_rate(now) - 5.0) < 0.6
