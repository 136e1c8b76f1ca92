# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from tiny_robot import CONTRACT, SECOND, TAG, compressed, image, joint_state, picture

from molmoact2_policy import ingest
from molmoact2_policy.camera_health import CameraHealth
from molmoact2_policy.ingest import Ingest

INGEST = Ingest(CONTRACT, TAG)


def seen(seconds: float, top: np.ndarray, wrist: np.ndarray):
    stamp = int((1000 + seconds) * SECOND)
    return INGEST.observation([image(top, stamp), compressed(wrist, stamp)], [joint_state(stamp)], "joint_states")


def health(check_frozen: bool = True) -> CameraHealth:
    return CameraHealth(CONTRACT, TAG, check_frozen)


def test_cameras_that_show_something_are_no_problem():
    assert health().problem(seen(0, picture(1), picture(2))) == ""


def test_a_black_or_saturated_camera_is_named_and_a_good_frame_ends_it():
    watch = health()
    dark, bright = np.full((60, 80, 3), 3, np.uint8), np.full((60, 80, 3), 255, np.uint8)
    assert watch.problem(seen(0.0, dark, picture(2))) == "camera top is black"
    assert watch.problem(seen(0.1, dark, bright)) == "camera top is black; camera wrist is saturated"
    assert watch.problem(seen(0.2, picture(1), picture(2))) == ""


def test_a_camera_that_repeats_its_bytes_under_new_stamps_is_frozen_after_the_contracts_time_until_it_changes():
    watch = health()
    assert watch.problem(seen(0.0, picture(1), picture(2))) == ""
    assert watch.problem(seen(0.5, picture(1), picture(3))) == ""
    assert watch.problem(seen(0.6, picture(1), picture(4))).startswith("camera top is frozen")
    assert watch.problem(seen(0.7, picture(5), picture(4))) == ""
    assert watch.problem(seen(0.8, picture(5), picture(4))) == ""


@pytest.mark.parametrize("place", [(0, 0, 0), (0, -1, 2), (1, 0, 0), (30, 40, 1), (-1, -1, -1)], ids=str)
def test_a_frame_that_differs_in_one_bit_anywhere_is_another_and_its_camera_is_not_frozen(place):
    watch, other = health(), picture(1)
    other[place] ^= 1
    assert watch.problem(seen(0.0, picture(1), picture(2))) == ""
    assert watch.problem(seen(0.6, other, picture(3))) == ""
    assert watch.problem(seen(1.2, other, picture(4))).startswith("camera top is frozen")


def test_a_frozen_camera_is_known_before_any_digest_is_taken(monkeypatch):
    def taken(_):
        raise AssertionError("a digest was taken")

    monkeypatch.setattr(ingest, "digest", taken)
    watch = health()
    assert watch.problem(seen(0.0, picture(1), picture(2))) == ""
    assert watch.problem(seen(0.6, picture(1), picture(3))).startswith("camera top is frozen")


def test_a_camera_without_frozen_after_and_any_simulated_one_may_repeat_itself():
    watch = health()
    assert all(watch.problem(seen(t, picture(t), picture(99))) == "" for t in range(5))
    simulated = health(check_frozen=False)
    assert all(simulated.problem(seen(t, picture(1), picture(1))) == "" for t in range(5))


def test_a_camera_that_changes_its_size_is_named_until_it_is_set_back_or_a_new_episode_begins():
    watch = health()
    assert watch.problem(seen(0.0, picture(1), picture(2))) == ""
    small = picture(3, 30, 40)
    assert "camera top sends 40 x 30 pixels, it sent 80 x 60" in watch.problem(seen(0.1, small, picture(4)))
    assert watch.problem(seen(0.2, picture(5), picture(6))) == ""
    watch.forget()
    assert watch.problem(seen(0.3, small, picture(7))) == ""
