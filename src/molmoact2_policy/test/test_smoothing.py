# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from molmoact2_policy.smoothing import Smoothing

TIMES = np.arange(30)[:, None] / 30
MOTION = np.concatenate([0.5 * TIMES, TIMES**3 - TIMES, np.sin(3 * TIMES)], axis=1).astype(np.float32)
TREMBLE = np.random.default_rng(0).normal(0, 0.01, MOTION.shape).astype(np.float32)


def roughness(chunk: np.ndarray) -> float:
    return float(np.abs(np.diff(chunk, 2, axis=0)).mean())


def test_the_tremble_goes_and_the_motion_stays():
    smooth = Smoothing(0.5, 1 / 30)(MOTION + TREMBLE)
    assert smooth.dtype == np.float32 and smooth.shape == MOTION.shape
    assert roughness(smooth) < 0.2 * roughness(MOTION + TREMBLE)
    assert np.abs(smooth - MOTION).max() < np.abs(TREMBLE).max()
    np.testing.assert_allclose(Smoothing(0.5, 1 / 30)(MOTION[:, :2]), MOTION[:, :2], atol=1e-5)


def test_a_motion_that_stops_at_a_limit_is_not_led_over_it():
    for sign in (1, -1):
        ramp = sign * np.minimum(1.2 * TIMES, 0.6).astype(np.float32)
        smooth = Smoothing(0.5, 1 / 30)(ramp)
        assert (sign * smooth).min() >= 0 and (sign * smooth).max() <= np.float32(0.6)
        assert (smooth != ramp).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("waypoint", [0, 15, 29])
def test_a_chunk_with_a_number_that_is_none_is_left_to_be_refused(value, waypoint):
    broken = (MOTION + TREMBLE).copy()
    broken[waypoint, 1] = value
    np.testing.assert_array_equal(Smoothing(0.5, 1 / 30)(broken), broken)


def test_what_another_chunk_already_does_stays_as_it_is():
    rough = MOTION + TREMBLE
    smooth = Smoothing(0.5, 1 / 30)(rough, kept=9)
    assert (smooth[:9] == rough[:9]).all() and (smooth[9:] != rough[9:]).any()


@pytest.mark.parametrize(("seconds", "waypoints"), [(0.0, 30), (0.04, 30), (0.5, 4), (0.5, 1)])
def test_without_a_stretch_to_fit_chunks_are_left_alone(seconds, waypoints):
    rough = (MOTION + TREMBLE)[:waypoints]
    assert (Smoothing(seconds, 1 / 30)(rough) == rough).all()
    assert Smoothing(5.0, 1 / 30)(MOTION + TREMBLE).shape == MOTION.shape    # longer than the chunk
