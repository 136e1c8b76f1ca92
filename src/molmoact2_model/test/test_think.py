# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What the reference rule refreshes, where it is blind, and how the bounded policy closes each hole."""

import numpy as np
import pytest
from golden_set import textured

from molmoact2_model.images import image_fault
from molmoact2_model.think import BoundedPolicy, Bounds, Codes, ReferencePolicy, Request, runs

SIDE = 10
CELLS = SIDE * SIDE


class Driver:
    """Feeds frames to a policy as a session would, one call a second."""

    def __init__(self, policy):
        self.policy, self.now = policy, 0.0

    def call(self, image, instruction="pick", tag="arm", others=((480, 640, 3),), wait=0.5):
        self.now += wait
        request = Request(image, (image.shape, *others), instruction, tag, self.now)
        decision = self.policy.decide(request)
        self.now += 0.5
        codes = Codes(np.zeros(CELLS, np.int64), np.ones(CELLS, np.float32), np.zeros(CELLS, np.int64))
        self.policy.commit(request, decision, codes, self.now)
        return decision


def reference():
    return Driver(ReferencePolicy(SIDE))


def bounded(**bounds):
    return Driver(BoundedPolicy(SIDE, Bounds(**bounds)))


def scaled(image, factor):
    return (image.astype(np.float32) * factor).astype(np.uint8)


def noisy(image, sigma, seed):
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def blend(start, end, share):
    return (start * (1 - share) + end * share).round().astype(np.uint8)


def fade(start, end, calls):
    return [blend(start, end, (index + 1) / calls) for index in range(calls)]


# --- the reference rule, row by row of what is known of it ------------------------------------------------
@pytest.mark.parametrize("seed", range(5))
def test_the_reference_rule_refreshes_nothing_on_an_identical_a_black_or_a_recovered_frame(seed):
    driver, image = reference(), textured(seed)
    assert driver.call(image).cause == "first_call"
    for frame in (image.copy(), np.zeros_like(image), image):
        assert driver.call(frame).refreshed.sum() == 0


@pytest.mark.parametrize("factor", [0.9, 0.7, 0.5, 0.3])
def test_the_reference_rule_does_not_see_brightness(scene, factor):
    driver = reference()
    driver.call(scene)
    assert driver.call(scaled(scene, factor)).refreshed.sum() == 0


def test_the_reference_rule_sees_noise_in_the_dark_only(scene):
    bright, dark = reference(), reference()
    bright.call(noisy(scene, 4, 1))
    assert bright.call(noisy(scene, 4, 2)).refreshed.sum() == 0
    night = textured(mean=20.0, contrast=6.0)
    dark.call(noisy(night, 4, 1))
    assert dark.call(noisy(night, 4, 2)).refreshed.sum() == CELLS


def test_the_reference_rule_refreshes_all_on_a_cut_and_nothing_on_a_fade(scene):
    other, driver = textured(1), reference()
    driver.call(scene)
    assert driver.call(other).refreshed.sum() == CELLS
    driver = reference()
    driver.call(scene)
    assert sum(driver.call(frame).refreshed.sum() for frame in fade(scene, other, 40)) == 0


def test_the_reference_rule_refreshes_the_cells_that_moved(scene):
    driver, changed = reference(), scene.copy()
    driver.call(scene)
    changed[0:48, 64:128] = 255 - changed[0:48, 64:128]
    decision = driver.call(changed)
    assert decision.refreshed[1]
    assert decision.refreshed.sum() <= 6


@pytest.mark.parametrize("make", [reference, bounded])
def test_a_frame_may_be_written_over_when_the_call_is_over(make):
    """Also one of the very size that cells are cut from, which nothing resizes."""
    frame = textured(1, size=(SIDE * 32, SIDE * 32))
    changed = frame.copy()
    changed[:64] = 255 - changed[:64]
    driver, careful = make(), make()
    careful.call(frame.copy())
    driver.call(frame)
    frame[:] = changed
    wanted, found = careful.call(changed), driver.call(frame)
    assert wanted.refreshed.sum() == 2 * SIDE and wanted.cause == found.cause == ""
    np.testing.assert_array_equal(wanted.refreshed, found.refreshed)


# --- each of those rows under the bounded policy ----------------------------------------------------------
def test_an_identical_frame_is_no_cause(scene):
    driver = bounded()
    assert driver.call(scene).cause == "first_call"
    for _ in range(20):
        decision = driver.call(scene.copy())
        assert decision.cause == ""
        assert decision.refreshed.sum() == 0


@pytest.mark.parametrize(("level", "name"), [(0, "black"), (255, "saturated")])
def test_a_camera_that_drops_out_forces_full_passes_until_it_is_back(scene, level, name):
    driver, blank = bounded(), np.full_like(scene, level)
    driver.call(scene)
    for frame, cause in (
        (blank, f"main_image_{name}"),
        (blank, f"main_image_{name}"),
        (scene, "main_image_recovered"),
    ):
        decision = driver.call(frame)
        assert decision.cause == cause
        assert decision.refreshed.all()
    assert driver.call(scene).cause == ""


@pytest.mark.parametrize("factor", [0.9, 0.7, 0.5, 0.3])
def test_a_jump_in_brightness_forces_a_full_pass(scene, factor):
    driver = bounded()
    driver.call(scene)
    decision = driver.call(scaled(scene, factor))
    assert decision.cause == "main_image_changed"
    assert decision.refreshed.all()
    assert driver.call(scaled(scene, factor)).cause == ""


def test_sensor_noise_is_no_cause(scene):
    driver = bounded()
    driver.call(noisy(scene, 4, 0))
    for seed in range(1, 31):
        assert driver.call(noisy(scene, 4, seed)).cause == ""


def test_a_small_flicker_of_the_exposure_is_no_cause(scene):
    driver = bounded()
    driver.call(scene)
    for index in range(30):
        assert driver.call(scaled(scene, 1.0 if index % 2 else 0.98)).cause == ""


def test_noise_in_the_dark_refreshes_everything(scene):
    driver, night = bounded(), textured(mean=20.0, contrast=6.0)
    driver.call(noisy(night, 4, 1))
    assert driver.call(noisy(night, 4, 2)).refreshed.all()


def test_a_cut_refreshes_everything_and_says_so(scene):
    driver = bounded()
    driver.call(scene)
    decision = driver.call(textured(1))
    assert decision.refreshed.all()
    assert decision.cause == "main_image_changed"


@pytest.mark.parametrize("calls", [5, 10, 20, 40])
def test_a_slow_fade_to_another_scene_forces_a_full_pass_before_half_of_it_is_over(scene, calls):
    driver, forced = bounded(), []
    driver.call(scene)
    for index, frame in enumerate(fade(scene, textured(1), calls)):
        if driver.call(frame).cause == "main_image_changed":
            forced.append(index)
    assert forced
    assert forced[0] < calls / 2


@pytest.mark.parametrize("direction", ["darker", "brighter"])
def test_a_slow_change_of_light_forces_full_passes(scene, direction):
    driver, causes = bounded(), []
    end = scaled(scene, 0.5) if direction == "darker" else blend(scene, np.full_like(scene, 255), 0.5)
    driver.call(scene)
    for frame in fade(scene, end, 60):
        causes.append(driver.call(frame).cause)
    assert causes.count("main_image_changed") >= 3
    assert set(causes) == {"", "main_image_changed"}


def test_a_slow_drift_of_the_camera_forces_a_full_pass():
    wide = textured(size=(480, 736))
    driver, causes = bounded(), []
    for step in range(0, 80):
        share = (step % 4) / 4
        left = step // 4
        sub_pixel = blend(wide[:, left : left + 640], wide[:, left + 1 : left + 641], share)
        decision = driver.call(sub_pixel)
        causes.append(decision.cause)
        if step:
            assert decision.cause or decision.refreshed.sum() < CELLS / 2
    assert causes.count("main_image_changed") >= 2


def test_a_change_in_one_cell_too_slow_for_the_rule_is_caught_in_time(scene):
    driver, causes = bounded(), []
    end = scene.copy()
    end[48:96, 64:128] = scaled(end[48:96, 64:128], 0.4)
    driver.call(scene)
    for frame in [*fade(scene, end, 30), *(noisy(end, 1, seed) for seed in range(12))]:
        causes.append(driver.call(frame).cause)
    assert "main_image_changed" in causes
    before = causes.index("main_image_changed")
    assert before > 3


def test_a_scene_replaced_row_by_row_forces_a_full_pass_though_each_call_changes_little(scene):
    driver, other, frame, causes = bounded(), textured(1), scene.copy(), []
    driver.call(scene)
    for row in range(SIDE):
        frame = frame.copy()
        frame[48 * row : 48 * (row + 1)] = other[48 * row : 48 * (row + 1)]
        decision = driver.call(frame)
        causes.append(decision.cause)
    assert causes[:3] == [""] * 3
    assert "main_image_changed" in causes


def test_a_frame_identical_to_the_last_is_no_cause_whatever_came_before(scene):
    driver, end = bounded(), scene.copy()
    end[48:96, 64:128] = scaled(end[48:96, 64:128], 0.9)
    driver.call(scene)
    driver.call(end)
    for _ in range(20):
        assert driver.call(end.copy()).cause == ""


def test_a_reset_before_the_first_call_is_no_cause_of_its_own(scene):
    driver = bounded()
    driver.policy.forget("reset")
    assert driver.call(scene).cause == "first_call"


def test_a_moving_object_stays_adaptive(scene):
    driver, generator = bounded(), np.random.default_rng(3)
    block = generator.integers(0, 255, (96, 128, 3), dtype=np.uint8)
    driver.call(scene)
    for step in range(12):
        frame = scene.copy()
        frame[100:196, 40 * step : 40 * step + 128] = block
        decision = driver.call(frame)
        assert decision.cause == ""
        assert 4 <= decision.refreshed.sum() <= 30


# --- the other causes -------------------------------------------------------------------------------------
def test_what_changes_around_the_main_image_forces_a_full_pass(scene):
    driver = bounded()
    driver.call(scene)
    assert driver.call(scene, instruction="place").cause == "instruction_changed"
    assert driver.call(scene, instruction="place", tag="hand").cause == "norm_tag_changed"
    same = {"instruction": "place", "tag": "hand"}
    assert driver.call(scene, **same, others=((240, 320, 3),)).cause == "camera_size_changed"
    assert driver.call(scene, **same, others=()).cause == "camera_size_changed"
    assert driver.call(scene, **same, others=()).cause == ""
    assert driver.call(scene[::2, ::2].copy(), **same, others=()).cause == "camera_size_changed"


def test_a_gap_is_counted_from_the_end_of_the_last_call(scene):
    driver = bounded(max_gap=2.0)
    driver.call(scene)
    assert driver.call(scene, wait=2.0).cause == ""
    assert driver.call(scene, wait=2.01).cause == "gap"


def test_a_full_refresh_comes_every_n_calls(scene):
    driver = bounded(full_refresh_every=3)
    causes = [driver.call(scene).cause for _ in range(7)]
    assert causes == ["first_call", "", "", "full_refresh_every", "", "", "full_refresh_every"]


def test_any_other_full_pass_begins_the_count_anew(scene):
    driver = bounded(full_refresh_every=3)
    causes = [driver.call(scene, instruction=text).cause for text in "aabbbb"]
    assert causes == ["first_call", "", "instruction_changed", "", "", "full_refresh_every"]


@pytest.mark.parametrize("make", [reference, bounded])
@pytest.mark.parametrize("because", ["reset", "call_failed"])
def test_forgetting_forces_a_full_pass_and_names_why(scene, make, because):
    driver = make()
    driver.call(scene)
    driver.policy.forget(because)
    assert driver.call(scene).cause == because
    assert driver.call(scene).cause == ""


def test_runs_split_a_mask_in_raster_order():
    mask = np.array([1, 1, 0, 1, 0, 0], bool)
    assert runs(mask) == [(0, 2, True), (2, 3, False), (3, 4, True), (4, 6, False)]
    assert runs(np.ones(3, bool)) == [(0, 3, True)]


def test_the_scenes_of_these_tests_are_good_frames(scene):
    assert image_fault(scene) == ""
    assert 90 < scene.mean() < 150
