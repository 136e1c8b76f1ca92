# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from camera_driver.clock import DeviceClock, HostClocks

MS = 1_000_000
PERIOD = 33 * MS


def arrivals(count: int, delay_ns, drift: float = 0.0, start_ns: int = 7_000_000_000):
    """(device, true capture, arrival) of frames; the device's clock began 123 s before the host's, and drifts."""
    for k in range(count):
        captured = start_ns + k * PERIOD
        yield round(captured * (1 + drift)) + 123_000_000_000, captured, captured + delay_ns(k)


def test_jitter_of_arrival_is_not_in_the_stamps_once_one_frame_came_fast():
    jitter = random.Random(3)
    clock = DeviceClock()
    errors = [
        clock.to_steady(device, arrival) - captured
        for device, captured, arrival in arrivals(300, lambda k: 5 * MS + jitter.randrange(20 * MS))
    ]
    assert max(errors[100:]) - min(errors[100:]) < MS
    assert all(5 * MS <= error < 6 * MS for error in errors[100:])


def test_no_stamp_lies_in_the_future_and_none_is_before_the_capture():
    jitter = random.Random(4)
    clock = DeviceClock()
    for device, captured, arrival in arrivals(300, lambda k: jitter.randrange(30 * MS)):
        assert captured <= clock.to_steady(device, arrival) <= arrival


@pytest.mark.parametrize("drift", [50e-6, -50e-6])
def test_a_clock_that_drifts_is_followed_within_a_millisecond(drift):
    clock = DeviceClock()
    errors = [
        clock.to_steady(device, arrival) - captured
        for device, captured, arrival in arrivals(10_000, lambda k: 4 * MS, drift)
    ]
    assert max(abs(error - 4 * MS) for error in errors) < MS


def test_a_frame_that_comes_a_second_late_keeps_its_capture_time():
    clock = DeviceClock()
    for device, captured, arrival in arrivals(60, lambda k: 1000 * MS if k == 50 else 4 * MS):
        assert clock.to_steady(device, arrival) - captured == 4 * MS


def test_a_device_that_begins_to_count_anew_is_mapped_anew_at_once():
    clock = DeviceClock()
    for device, _, arrival in arrivals(30, lambda k: 4 * MS):
        clock.to_steady(device, arrival)
    assert clock.to_steady(17, arrival + PERIOD) == arrival + PERIOD


def test_a_jump_of_ros_time_is_in_the_next_stamp():
    ros = {"offset": 10**18}
    clocks = HostClocks(lambda: 5000 + ros["offset"], lambda: 5000, lambda: 77_000)
    assert clocks.from_steady(4000) == 4000 + 10**18
    assert clocks.from_system(76_000) == 4000 + 10**18
    ros["offset"] += 3 * 10**9
    assert clocks.from_steady(4000) == 4000 + 10**18 + 3 * 10**9
