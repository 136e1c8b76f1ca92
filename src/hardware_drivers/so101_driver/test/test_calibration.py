# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration files and units: LeRobot's files are read as they are, and counts and radians are one to one."""

import json

import numpy as np
import pytest

from so101_driver.calibration import (
    MOTORS,
    CalibrationError,
    MotorCalibration,
    Units,
    find_calibration,
    load_calibration,
    save_calibration,
)
from so101_driver.double.arm import double_calibration
from so101_driver.registers import GOAL_POSITION, HOMING_OFFSET, PRESENT_LOAD


def written(tmp_path, change=lambda given: None):
    given = {
        name: {
            "id": i + 1, "drive_mode": 0, "homing_offset": 100 * i - 200, "range_min": 800 + i, "range_max": 3300 - i,
        }
        for i, name in enumerate(MOTORS)
    }
    change(given)
    path = tmp_path / "arm.json"
    path.write_text(json.dumps(given, indent=4))
    return path


def test_a_lerobot_file_is_read_as_it_is_and_written_byte_for_byte_the_same(tmp_path):
    path = written(tmp_path)
    calibration = load_calibration(str(path))
    assert calibration["elbow_flex"] == MotorCalibration(3, 0, 0, 802, 3298)
    save_calibration(tmp_path / "again.json", calibration)
    assert (tmp_path / "again.json").read_text() == path.read_text()


@pytest.mark.parametrize("change, said", [
    (lambda g: g.pop("gripper"), "expected are shoulder_pan"),
    (lambda g: g["gripper"].pop("id"), "expected exactly the keys"),
    (lambda g: g["gripper"].update(range_min=1.5), "range_min must be a whole number"),
    (lambda g: g["gripper"].update(range_min=3400), "must rise"),
    (lambda g: g["gripper"].update(range_max=5000), "within 0 .. 4095"),
    (lambda g: g["gripper"].update(range_max=900), "too small"),
    (lambda g: g["gripper"].update(id=1), "two motors one id"),
    (lambda g: g["wrist_flex"].update(homing_offset=2048), "outside +-2047"),
    (lambda g: g["wrist_flex"].update(drive_mode=1), "no meaning for a joint in degrees"),
    (lambda g: (g.clear(), g.update(motor_names=[], homing_offset=[])), "before its change of calibration"),
])
def test_what_is_wrong_with_a_file_is_named(tmp_path, change, said):
    path = written(tmp_path, change)
    with pytest.raises(CalibrationError) as raised:
        load_calibration(str(path))
    assert said in str(raised.value) and str(path) in str(raised.value)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CalibrationError, match="cannot be read as JSON"):
        load_calibration(str(tmp_path / "broken.json"))


def test_lerobots_own_folder_is_searched_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "lerobot" / "robots" / "so101_follower"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HF_LEROBOT_CALIBRATION", str(tmp_path / "lerobot"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "ours"))
    save_calibration(folder / "left_arm.json", double_calibration())
    assert find_calibration("left_arm") == folder / "left_arm.json"
    with pytest.raises(CalibrationError, match="names there: left_arm"):
        find_calibration("right_arm")


def test_the_suites_own_folder_is_searched_by_name_as_in_a_container_whose_home_is_empty(tmp_path, monkeypatch):
    folder = tmp_path / "config/calibration"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MOLMOACT2_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "empty"))
    save_calibration(folder / "mounted_arm.json", double_calibration())
    assert find_calibration("mounted_arm") == folder / "mounted_arm.json"


def test_a_crash_while_a_file_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = written(tmp_path)
    before = path.read_text()

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError):
        save_calibration(path, double_calibration())
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_every_count_of_the_range_comes_back_as_itself():
    units = Units(double_calibration(), MOTORS)
    for share in np.linspace(0, 1, 997):
        counts = np.rint(units.lower_counts + share * (units.upper_counts - units.lower_counts))
        assert (units.to_counts(units.to_ros(counts)) == counts).all()


def test_every_radian_comes_back_within_half_a_count():
    units = Units(double_calibration(), MOTORS)
    half = np.abs(units.to_ros(np.full(6, 1.0)) - units.to_ros(np.zeros(6))) / 2
    for share in np.linspace(0, 1, 997):
        ros = units.lower + share * (units.upper - units.lower)
        assert (np.abs(units.to_ros(units.to_counts(ros)) - ros) <= half + 1e-12).all()


def test_zero_is_the_middle_a_turn_is_4096_counts_and_the_gripper_goes_from_0_to_1():
    calibration = {name: MotorCalibration(i + 1, 0, 0, 1000, 3000) for i, name in enumerate(MOTORS)}
    units = Units(calibration, MOTORS)
    assert units.to_ros(np.full(6, 2000.0)) == pytest.approx([0, 0, 0, 0, 0, 0.5])
    assert units.to_ros(np.full(6, 3000.0)) == pytest.approx([1000 * 2 * np.pi / 4096] * 5 + [1])
    calibration["gripper"] = MotorCalibration(6, 1, 0, 1000, 3000)
    assert Units(calibration, MOTORS).to_ros(np.full(6, 3000.0))[5] == 0


def test_signed_registers_keep_their_sign_in_a_bit_of_its_own():
    for register, most in ((GOAL_POSITION, 32767), (HOMING_OFFSET, 2047), (PRESENT_LOAD, 1023)):
        for value in (-most, -1, 0, 1, most):
            assert register.decode(register.encode(value)) == value
        with pytest.raises(ValueError):
            register.encode(most + 1)
    assert HOMING_OFFSET.encode(-1) == b"\x01\x08"
