# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 check` as a person starts it: real processes, real DDS, a domain of its own for each test."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from live_system import ROOT, Molmoact2, Up
from PIL import Image

SYSTEM = ROOT / "config/systems/so101_sim.yaml"
CONTRACT = ROOT / "config/embodiments/so101.yaml"


@pytest.fixture
def begin(tmp_path):
    begun = []

    def begun_one(domain, *arguments, kind=Molmoact2):
        given = arguments if kind is Up else ("check", *arguments, "--out", str(tmp_path / "check"))
        begun.append(kind(domain, *given))
        return begun[-1]

    yield begun_one
    for one in begun:
        one.stop()


def lines_of(tmp_path):
    """Lines by name; of several with one name the one that failed."""
    lines = json.loads((tmp_path / "check/check.json").read_text())["lines"]
    return {line["name"]: line for line in sorted(lines, key=lambda line: line["outcome"] == "fail")}


def outcome(lines, name):
    return lines[name]["outcome"]


def written(tmp_path, system=None, contract=None):
    """Path of a system file that is so101_sim with changes; system, contract: functions that change their content."""
    robot = yaml.safe_load(CONTRACT.read_text())
    if contract:
        contract(robot)
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(robot, sort_keys=False))
    content = yaml.safe_load(SYSTEM.read_text())
    content["contract"] = str(tmp_path / "robot.yaml")
    if system:
        system(content["processes"])
    (tmp_path / "my_system.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return str(tmp_path / "my_system.yaml")


def children(process):
    """Process ids of what it has started, and of what those have."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    direct = [int(pid) for task in tasks for pid in task.read_text().split()]
    return direct + [pid for child in direct for pid in children(child)]


def test_a_good_set_up_passes_and_leaves_pictures_to_look_at(begin, tmp_path):
    check = begin(120, "so101_sim")
    assert check.end() == 0, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert not [line for line in lines.values() if line["outcome"] == "fail"]
    for name in ("checkpoint files", "norm tag", "model camera order", "joint names", "units", "stopping arm",
                 "calibration arm", "checkpoint loads", "processes", "camera front", "camera wrist", "pictures",
                 "joint states", "joint shoulder_pan", "disk"):
        assert outcome(lines, name) == "pass", lines[name]
    assert "health arm" in lines and "clocks" in lines and "latency" in lines
    for picture in ("image_1_front.png", "image_2_wrist.png"):
        assert Image.open(tmp_path / "check" / picture).size == (320, 240)
    assert Image.open(tmp_path / "check/cameras.png").width > 640
    assert "following" not in (tmp_path / "check/log.txt").read_text()    # nothing moved
    assert re.search(r"\d+ passed, ", check.wait_for("passed, "))


@pytest.mark.long
def test_with_a_double_in_place_of_the_device_its_driver_and_its_bus_are_looked_at(begin, tmp_path):
    check = begin(149, "so101", "--double")
    assert check.end() == 0, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert "(port=double calibration=double)" in lines["calibration arm"]["text"]
    assert "a cycle takes" in lines["bus arm"]["text"] and "voltage [V]" in lines["health arm"]["text"]
    assert "following" not in (tmp_path / "check/log.txt").read_text()    # nothing moved


@pytest.mark.long
def test_a_bad_set_up_fails_line_by_line_and_each_says_what_to_do(begin, tmp_path):
    def spoilt(processes):
        processes["cameras"]["parameters"]["camera_fault.front"] = "black"
        processes["arm_controller"]["parameters"]["driver_options"] = ["speed=3"]
        processes["policy"]["parameters"]["norm_tag"] = "so100_so101_molmoact2"

    def one_more_camera(robot):
        robot["cameras"]["side"] = {**robot["cameras"]["front"], "topic": "side/image_raw", "frame_id": "side_frame"}
        robot["norm_tags"]["so100_so101_molmoact2"]["cameras"] = ["front", "wrist", "side"]

    check = begin(121, written(tmp_path, spoilt, one_more_camera))
    assert check.end() == 1, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    for name, words in (
        ("norm tag", "so101_sim_molmoact2_tiny"), ("calibration arm", "speed"), ("camera front", "black"),
        ("camera side", "nothing came"), ("joint states", "nothing came"),
    ):
        assert outcome(lines, name) == "fail" and words in lines[name]["text"], lines[name]
        assert lines[name]["mend"]
    assert outcome(lines, "camera wrist") == "pass"
    assert outcome(lines, "latency") == "skip"


@pytest.mark.long
def test_a_checkpoint_for_fewer_cameras_fails_and_a_joint_where_it_never_was_is_shown(begin, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(ROOT / "checkpoints/molmoact2-tiny-think-so101", checkpoint)
    stats = json.loads((checkpoint / "norm_stats.json").read_text())
    seen = stats["metadata_by_tag"]["so101_sim_molmoact2_tiny"]["state_stats"]
    seen["q01"][4] = 1.0    # of wrist_roll, whose home is 0
    (checkpoint / "norm_stats.json").write_text(json.dumps(stats))

    def one_more_camera(robot):
        robot["cameras"]["side"] = {**robot["cameras"]["front"], "topic": "side/image_raw", "frame_id": "side_frame"}
        robot["norm_tags"]["so101_sim_molmoact2_tiny"]["cameras"] = ["front", "wrist", "side"]

    check = begin(122, written(tmp_path, contract=one_more_camera), "--set", f"policy.checkpoint={checkpoint}")
    assert check.end() == 1, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert outcome(lines, "model camera order") == "fail" and "3 side" in lines["model camera order"]["text"]
    roll = lines["joint wrist_roll"]
    assert roll["outcome"] == "warn" and "q01 to q99: 1 to 2.841" in roll["text"]
    assert outcome(lines, "joint elbow_flex") == "pass"


@pytest.mark.long
def test_an_arm_that_is_not_there_fails_with_its_drivers_own_words(begin, tmp_path):
    check = begin(
        123, "so101", "--set", "policy.checkpoint=molmoact2-tiny-think-so101", "--set",
        "policy.norm_tag=so101_sim_molmoact2_tiny", "--set",
        f"arm_controller.driver_options=[port={tmp_path}/no_port, calibration=double]",
    )
    assert check.end() == 1, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert outcome(lines, "calibration arm") == "pass"
    assert outcome(lines, "bus arm") == "fail" and f"{tmp_path}/no_port" in lines["bus arm"]["text"]
    assert outcome(lines, "camera front") == "fail"
    assert outcome(lines, "checkpoint loads") == "pass"


@pytest.mark.long
def test_moved_by_its_own_word_the_joint_turns_the_way_it_was_told(begin, tmp_path):
    check = begin(124, "so101_sim", "--move", "--joint", "shoulder_pan", "--yes", "--for", "1")
    assert check.end() == 0, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert "shoulder_pan" in check.wait_for("WILL MOVE")
    for name in ("move", "move: direction", "move: other joints", "move: back"):
        assert outcome(lines, name) == "pass", lines[name]
    turned = r"told to turn by \+3\.00 degrees and was measured to turn by \+[23]\."
    assert re.search(turned, lines["move: direction"]["text"])
    log = (tmp_path / "check/log.txt").read_text()
    assert log.index("armed; waiting for a chunk") < log.index("following") < log.index("disarmed by the operator")


@pytest.mark.long
def test_without_a_person_at_a_terminal_nothing_is_armed(begin, tmp_path):
    check = begin(125, "so101_sim", "--move", "--for", "1")
    check.end()
    assert outcome(lines_of(tmp_path), "move") == "skip"
    assert "armed; waiting" not in (tmp_path / "check/log.txt").read_text()


@pytest.mark.long
def test_a_system_that_runs_is_neither_started_again_nor_moved_and_can_be_listened_to(begin, tmp_path):
    system = begin(126, "so101_sim", kind=Up)
    system.wait_for("following: following chunk")
    check = begin(126, "so101_sim", "--move", "--yes")
    assert check.end() == 1, "\n".join(check.lines)
    lines = lines_of(tmp_path)
    assert outcome(lines, "already running") == "fail" and "--running" in lines["already running"]["mend"]
    assert outcome(lines, "move") == "skip" and "already running" in lines["move"]["text"]
    check = begin(126, "so101_sim", "--running")
    check.end()
    lines = lines_of(tmp_path)
    for name in ("processes", "camera front", "camera wrist", "joint states", "policy"):
        assert outcome(lines, name) == "pass", lines[name]
    assert system.process.poll() is None
    system.process.send_signal(signal.SIGINT)
    assert system.end() == 0


@pytest.mark.long
def test_ctrl_c_ends_all_that_was_started(begin, tmp_path):
    check = begin(127, "so101_sim", "--for", "600")
    started = re.compile(r"\[arm_controller\].*setpoints a second")
    log = tmp_path / "check/log.txt"
    check.wait_for("real-time|calibration arm")
    while not (log.exists() and started.search(log.read_text())):
        assert check.process.poll() is None, "\n".join(check.lines)
    below = children(check.process.pid)
    assert len(below) >= 3
    check.process.send_signal(signal.SIGINT)
    assert check.end() == 130, "\n".join(check.lines)
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []
    assert (tmp_path / "check/check.json").is_file()


@pytest.mark.long
def test_what_cannot_be_checked_at_all_is_refused(begin):
    assert begin(128, "no_such_system").end() == 2
    assert begin(128, "so101_sim", "--move", "--offline").end() == 2
