# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check`: what is made of what was heard of cameras, joints, devices and clocks. No ROS here."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from molmoact2_bringup.check.clocks import clock_lines, moments_line
from molmoact2_bringup.check.heard import ERROR, OK, WARN, Heard, Images, Joints, Report, Ticks
from molmoact2_bringup.check.line import FAIL, PASS, SKIP
from molmoact2_bringup.check.line import WARN as WARNED
from molmoact2_bringup.check.pictures import SHEET, save
from molmoact2_bringup.check.sensors import (
    camera_line,
    cycle_line,
    grouped,
    health_line,
    joints_line,
    report_lines,
    reported_bus_line,
)
from molmoact2_contract import load_contract

CONTRACT = load_contract("so101")
SECOND = 1_000_000_000
BEGAN = 1_800_000_000 * SECOND


def times(count, rate, offset=0.0):
    return [BEGAN + int((offset + i / rate) * SECOND) for i in range(count)]


def scene(seed=0):
    return np.random.default_rng(seed).integers(30, 220, (48, 64, 3), dtype=np.uint8)


def images(name="front", rate=15.0, age=0.02, count=75, **changed):
    stamps = times(count, rate)
    one = Images(
        f"{name}/image_raw", stamps, [s + int(age * SECOND) for s in stamps], {(64, 48)}, {"rgb8"},
        {f"{name}_optical_frame"}, b"x", 0, None, scene(), "", 9216,
    )
    return replace(one, **changed)


def joints(age=0.001, rate=100.0, count=500, **changed):
    stamps = times(count, rate)
    positions = dict(zip(CONTRACT.joint_names, CONTRACT.values("home").tolist(), strict=True))
    arrivals = [s + int(age * SECOND) for s in stamps]
    return replace(Joints("joint_states", stamps, arrivals, positions), **changed)


def heard(**changed):
    ticks = Ticks("arm/status", times(50, 10), times(50, 10), [100, 600], [1, 1])
    one = Heard(
        {"front": images("front"), "wrist": images("wrist")}, {CONTRACT.joint_names: joints()}, "joint_states",
        {"arm": ticks},
    )
    return replace(one, **changed)


def look(one, rate=15.0, simulation=False):
    return camera_line(one, CONTRACT.cameras["front"], rate, simulation, "image_1_front.png")


# --- cameras ----------------------------------------------------------------------------------------------------------
def test_a_camera_that_shows_something_in_time_passes_with_what_it_sends():
    line = look(images())
    assert line.outcome == PASS and "64 x 48 rgb8" in line.text and "15.0 images" in line.text


@pytest.mark.parametrize(("one", "words"), [
    (images(count=0), "nothing came"),
    (images(image=np.zeros((48, 64, 3), np.uint8)), "black"),
    (images(image=np.full((48, 64, 3), 255, np.uint8)), "saturated"),
    (images(image=None, error="front/image_raw: no such encoding"), "no such encoding"),
    (images(frames={"wrist_optical_frame"}), "another camera"),
    (images(sizes={(64, 48), (32, 24)}), "size changes"),
    (images(stamps=[0] * 75), "zero"),
    (images(repeats=74), "equal"),
])
def test_a_camera_that_shows_nothing_of_use_fails_and_is_named(one, words):
    line = look(one)
    assert line.outcome == FAIL and line.name == "camera front" and words in line.text and line.mend


def test_a_simulated_scene_may_stand_still_and_a_live_camera_repeats_an_image_now_and_then():
    assert look(images(repeats=74), simulation=True).outcome == PASS
    assert look(images(repeats=20)).outcome == PASS


def test_a_camera_slower_than_it_was_asked_for_is_remarked_and_one_of_unknown_rate_is_not():
    assert look(images(rate=8.0), rate=15.0).outcome == WARNED
    assert look(images(rate=8.0), rate=None).outcome == PASS
    assert look(images(rate=2.0), rate=None).outcome == WARNED


def test_pictures_are_what_came_in_the_models_order(tmp_path):
    one, other = scene(1), scene(2)
    names = save({"front": images(image=one), "top": images(image=None), "wrist": images(image=other)}, tmp_path)
    assert names == {"front": "image_1_front.png", "top": "no image", "wrist": "image_3_wrist.png"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "image_1_front.png")), one)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "image_3_wrist.png")), other)
    sheet = np.asarray(Image.open(tmp_path / SHEET)).astype(int)
    panel = sheet.shape[1] // 3
    assert all(sheet[:, i * panel:(i + 1) * panel].std() > 0 for i in range(3))


# --- joints -----------------------------------------------------------------------------------------------------------
def test_joint_states_of_all_joints_pass_with_their_rate():
    line = joints_line(heard(), CONTRACT)
    assert line.outcome == PASS and "6 joints" in line.text and "100 states" in line.text


def test_joint_states_that_are_not_all_of_the_contracts_joints_once_fail():
    names = CONTRACT.joint_names
    for groups, word in (
        ({}, "nothing came"),
        ({names[:5]: joints()}, "gripper"),
        ({(*names, "tentacle"): joints()}, "tentacle"),
        ({names: joints(), names[:1]: joints()}, "twice"),
        ({names: joints(errors={"a message names nothing and has 2 positions"})}, "2 positions"),
        ({names: joints(positions={**joints().positions, names[1]: float("nan")})}, "not a number"),
    ):
        line = joints_line(heard(joints=groups), CONTRACT)
        assert line.outcome == FAIL and word in line.text, line


def test_a_pause_longer_than_the_timeout_is_remarked():
    late = joints()
    late.arrivals[250:] = [a + SECOND // 2 for a in late.arrivals[250:]]
    assert joints_line(heard(joints={CONTRACT.joint_names: late}), CONTRACT).outcome == WARNED


def test_the_cycle_of_the_device_is_told_by_its_stamps():
    assert cycle_line("arm", heard(), CONTRACT).outcome == PASS
    slow = {CONTRACT.joint_names: joints(rate=30.0)}
    line = cycle_line("arm", heard(joints=slow), CONTRACT)
    assert line.outcome == WARNED and "33.3 ms" in line.text
    stopped = joints()
    stopped.stamps[250:] = [s + SECOND // 2 for s in stopped.stamps[250:]]
    assert cycle_line("arm", heard(joints={CONTRACT.joint_names: stopped}), CONTRACT).outcome == FAIL
    late = heard()
    late.arms["arm"].missed[-1] = 101
    assert cycle_line("arm", late, CONTRACT).outcome == WARNED


def test_a_controller_in_fault_or_silent_fails_with_what_it_says():
    faulty = heard()
    faulty.arms["arm"].fault = "servo 3 is silent"
    assert "servo 3 is silent" in cycle_line("arm", faulty, CONTRACT).text
    assert cycle_line("arm", heard(arms={"arm": Ticks("arm/status")}), CONTRACT).outcome == FAIL


# --- devices ----------------------------------------------------------------------------------------------------------
def report(level=OK, message="all is well", **values):
    given = {key.replace("__", " "): value for key, value in values.items()}
    return {"arm: health": Report("arm: health", level, message, given)}


VALUES = {
    "elbow_flex temperature [°C]": "41.0", "gripper temperature [°C]": "29.0", "supply voltage [V]": "7.40",
    "failed requests": "0", "bus cycle median [ms]": "3.1", "bus cycle p99 [ms]": "12.0",
}


def test_what_a_device_says_of_itself_is_shown_by_kind_with_the_one_that_is_most():
    reports = {"arm: health": Report("arm: health", OK, "4 readings", VALUES)}
    line = health_line("arm", "so101", reports)
    assert line.outcome == PASS
    assert "temperature [°C] 29.0 to 41.0 (elbow_flex)" in line.text and "supply voltage [V] 7.40" in line.text
    assert grouped({"mode": "position"}) == ["mode position"]


def test_a_device_that_is_too_hot_is_remarked_or_fails_as_it_says():
    for level, outcome in ((OK, PASS), (WARN, WARNED), (ERROR, FAIL)):
        reports = {"arm: health": Report("arm: health", level, "elbow_flex temperature is 71.0 °C", VALUES)}
        line = health_line("arm", "so101", reports)
        assert line.outcome == outcome and "71.0" in line.text


def test_a_device_that_says_nothing_of_itself_is_said_to_say_nothing():
    for reports in ({}, report()):
        line = health_line("arm", "mujoco", reports)
        assert line.outcome == SKIP and "mujoco" in line.text


def test_the_bus_is_held_against_the_time_between_setpoints():
    reports = {"arm: health": Report("arm: health", OK, "", VALUES)}
    assert reported_bus_line("arm", reports, 0.02).outcome == PASS
    assert reported_bus_line("arm", reports, 0.01).outcome == WARNED
    assert reported_bus_line("arm", reports, 0.003).outcome == FAIL
    assert reported_bus_line("arm", report(), 0.01).outcome == SKIP


def test_diagnostics_of_others_are_shown_where_they_are_not_well():
    well = {"cameras": Report("cameras", OK, "in time", {})}
    ill = well | {"camera: front": Report("camera: front", ERROR, "is lost", {})}
    assert [line.outcome for line in report_lines(heard(reports=well))] == [PASS]
    lines = report_lines(heard(reports=ill))
    assert [line.outcome for line in lines] == [FAIL] and "is lost" in lines[0].text
    assert [line.outcome for line in report_lines(heard())] == [SKIP]


# --- clocks -----------------------------------------------------------------------------------------------------------
def test_clocks_that_agree_pass_with_the_ages_of_each_topic():
    lines = clock_lines(heard(), CONTRACT)
    assert [line.outcome for line in lines] == [PASS] and "front/image_raw 20.0 ms" in lines[0].text


@pytest.mark.parametrize(("age", "outcome"), [(-0.2, FAIL), (-0.01, WARNED), (1.5, FAIL)])
def test_a_camera_whose_clock_differs_is_named(age, outcome):
    lines = clock_lines(heard(cameras={"front": images(age=age), "wrist": images("wrist")}), CONTRACT)
    assert [line.outcome for line in lines] == [outcome]
    assert "front/image_raw" in lines[0].text and "chrony" in lines[0].mend


def test_joint_states_are_held_to_the_contracts_timeout():
    lines = clock_lines(heard(joints={CONTRACT.joint_names: joints(age=0.5)}), CONTRACT)
    assert [line.outcome for line in lines] == [FAIL] and "joint_states" in lines[0].text


def test_inputs_that_do_not_lie_together_fail_as_the_policy_would_refuse_them():
    assert moments_line(heard(), CONTRACT).outcome == PASS
    apart = images("wrist", stamps=times(5, 1.0, 0.3), arrivals=times(5, 1.0, 0.31))
    line = moments_line(heard(cameras={"front": images(), "wrist": apart}), CONTRACT)
    assert line.outcome == FAIL
    assert moments_line(heard(joints={}), CONTRACT).outcome == SKIP
