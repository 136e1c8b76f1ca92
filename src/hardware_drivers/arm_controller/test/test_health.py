# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What drivers report of their devices: judged, put in words, and carried without a wait."""

import math

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from arm_controller.driver import Reading
from arm_controller.health import Durations, Health, Level, ask, figure, label, level, summary
from arm_controller.messages import OLD, health_status
from arm_controller.setpoint_process import receive, send

HOT = Reading("elbow_flex temperature", 31.0, "°C", 60.0, 70.0)
LOW = Reading("elbow_flex voltage", 7.4, "V", 6.0, 5.5)


def at(reading, value):
    return Reading(reading.name, value, reading.unit, reading.warn, reading.stop)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (at(HOT, 59.9), Level.OK), (at(HOT, 60.0), Level.WARN), (at(HOT, 70.0), Level.ERROR),
        (at(LOW, 6.1), Level.OK), (at(LOW, 6.0), Level.WARN), (at(LOW, 5.5), Level.ERROR),
        (Reading("load", 99.0, "%"), Level.OK), (Reading("current", 2.0, "A", 2.0), Level.WARN),
        (Reading("age", 300.0, "ms", None, 250.0), Level.ERROR), (at(HOT, math.nan), Level.WARN),
    ],
)
def test_a_reading_past_its_warning_or_its_stop_is_told_apart_whichever_side_is_bad(reading, expected):
    assert level(reading) == expected


def test_the_worst_reading_names_itself_its_value_and_its_bound():
    worst, text = summary(Health((HOT, at(HOT, 66.0), at(LOW, 5.2))))
    assert worst == Level.ERROR and text == "elbow_flex voltage is 5.20 V; the stop is at 5.50 V"
    worst, text = summary(Health((HOT, at(HOT, 66.0), LOW)))
    assert worst == Level.WARN and text == "elbow_flex temperature is 66.0 °C; the warning is at 60.0 °C"
    assert summary(Health((HOT, LOW)))[0] == Level.OK


def test_a_reading_that_is_no_number_is_shown_as_not_known():
    assert summary(Health((at(HOT, math.nan),))) == (Level.WARN, "elbow_flex temperature is not known")


def test_a_driver_that_fails_to_report_is_an_error_in_its_own_words_and_stops_nothing(rig, monkeypatch):
    monkeypatch.setattr(rig.driver, "health", lambda: 1 / 0)
    health = ask(rig.driver)
    assert not health.readings and "ZeroDivisionError" in health.failed
    assert summary(health)[0] == Level.ERROR


def test_a_driver_that_reports_nothing_is_no_warning(rig):
    status = health_status(ask(rig.driver), rig.arm, 0.0)
    assert status.level == DiagnosticStatus.OK and status.message == "the driver reports no readings"


def test_what_is_published_bears_names_units_and_figures(rig):
    status = health_status(Health((HOT, LOW, Reading("retries", 3, ""))), rig.arm, 0.5)
    assert status.name == "arm: health" and status.hardware_id == "arm" and status.level == DiagnosticStatus.OK
    assert {pair.key: pair.value for pair in status.values} == {
        "elbow_flex temperature [°C]": "31.0", "elbow_flex voltage [V]": "7.40", "retries": "3",
    }


def test_readings_that_are_old_are_said_to_be(rig):
    status = health_status(Health((HOT,)), rig.arm, OLD + 1.0)
    assert status.level == DiagnosticStatus.STALE and "no readings for 4.0 s" in status.message


def test_figures_keep_three_digits_and_counts_are_whole():
    assert [figure(value, "ms") for value in (0.1234, 1.2345, 12.345, 123.45)] == ["0.123", "1.23", "12.3", "123.5"]
    assert figure(12.0, "") == "12" and label(Reading("retries", 12.0, "")) == "retries"


def test_durations_are_told_by_median_and_99th_percentile_in_ms():
    durations = Durations()
    assert durations.readings("cycle") == []
    for number in range(1, 102):
        durations.add(number / 1000)
    median, late = durations.readings("cycle")
    assert (median.name, median.value, median.unit) == ("cycle median", pytest.approx(51.0), "ms")
    assert (late.name, late.value) == ("cycle p99", pytest.approx(100.0))


def test_health_goes_over_the_setpoint_processs_own_channel(wire):
    assert send(wire[0], Health((HOT, LOW)))
    assert receive(wire[1], 5.0) == Health((HOT, LOW))
