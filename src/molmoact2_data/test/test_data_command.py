# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import shutil
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest
from hand_made import edit_column, edit_feature, moving, write_older, write_set

from molmoact2_data.command import BAD_INPUT, OK, register
from molmoact2_data.companions import DEPTH_CODES, POINTS, QUESTIONS, Companion
from molmoact2_data.keep import KEEP, open_kept
from molmoact2_data.reader import Dataset
from molmoact2_data.writer import DatasetWriter, Row

SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def molmoact2(*words: object) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["data", *map(str, words)])
    return args.func(args)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sound") / "cubes", [moving(30, 6, s) for s in range(3)], names=SO101)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory) -> Path:
    """Of three episodes one has no video and one no number in a frame."""
    states = [moving(30, 6, 10 + episode) for episode in range(3)]
    root = write_older(tmp_path_factory.mktemp("spoilt") / "mess", states, names=SO101)
    (root / "videos/chunk-000/observation.images.front/episode_000001.mp4").unlink()
    edit_column(root / "data/chunk-000/episode_000002.parquet", "action", lambda r: [[float("nan")] * 6, *r[1:]])
    return root


def test_the_suites_command_has_it():
    (point,) = entry_points(group="molmoact2.commands", name="data")
    assert point.load() is register


# --- inspect ----------------------------------------------------------------------------------------------------------
def test_inspect_tells_what_there_is_and_what_is_odd(sound, spoilt, capsys):
    assert molmoact2("inspect", sound, spoilt) == OK
    told = capsys.readouterr().out
    head = told.splitlines()
    assert head[2].split() == [str(sound), "v3.0", "3", "90", "0.00", "10", "front", "6", "3"]
    assert head[3].split()[1] == "v2.1"
    assert "state shoulder_pan" in told and "1 x 'do thing number 2'" in told
    of_sound, of_spoilt = told.split(f"\n{spoilt}\n")
    assert "nothing odd" in of_sound and "odd: " not in of_sound
    assert "episode_000001.mp4 is missing" in of_spoilt and "episode 2: action is not finite in frame 0" in of_spoilt


def test_inspect_counts_only_what_a_list_keeps(sound, tmp_path, capsys):
    molmoact2("filter", sound, "-o", tmp_path / "kept", "--only", "short", "--set", "short.seconds=2")
    capsys.readouterr()
    assert molmoact2("inspect", tmp_path / "kept") == OK
    assert "nothing odd" in capsys.readouterr().out
    content = json.loads((tmp_path / "kept" / KEEP).read_text())
    (tmp_path / "kept" / KEEP).write_text(json.dumps(content | {"keep": {"1": [[0, 20]]}}))
    assert molmoact2("inspect", tmp_path / "kept") == OK
    told = capsys.readouterr().out
    assert told.splitlines()[2].split()[2:4] == ["1", "20"] and "odd: 20 of 90 frames are kept by its list" in told


def test_inspect_finds_actions_without_names_and_a_description_that_is_broken(tmp_path, capsys):
    root = write_set(tmp_path / "set", [moving(30)])
    edit_feature(root, "action", names=None)
    (root / "meta/depth_codes.json").write_text("{")
    assert molmoact2("inspect", root) == OK
    told = capsys.readouterr().out
    assert "odd: the values of action have no names" in told
    assert "odd: meta/depth_codes.json cannot be read" in told
    (root / "meta/depth_codes.json").write_text("{}")
    edit_feature(root, "action", names=["b", "a"])
    assert molmoact2("inspect", root) == OK
    told = capsys.readouterr().out
    assert "have other names, or another order" in told and "odd: meta/depth_codes.json says no format" in told


def test_inspect_makes_a_page_with_images_also_of_what_is_spoilt(sound, spoilt, tmp_path):
    assert molmoact2("inspect", sound, spoilt, "--out", tmp_path / "look") == OK
    sheets = [cv2.imread(str(tmp_path / f"look/sheet_{number}.png")) for number in (0, 1)]
    assert sheets[0].shape == sheets[1].shape and sheets[0].std() > 20
    third = len(sheets[1]) // 3
    shown = [len(np.unique(sheets[1][row * third + 24 : (row + 1) * third - 6])) > 10 for row in range(3)]
    assert shown == [True, False, True], "the middle episode has no video"
    page = (tmp_path / "look/index.html").read_text()
    assert "episode_000001.mp4 is missing" in page and page.count("data:image/png") == 2


# --- stats ------------------------------------------------------------------------------------------------------------
def test_stats_writes_the_file_and_tells_the_figures(sound, tmp_path, capsys):
    words = ("stats", sound, "--tag", "mine", "--embodiment", "so101", "-o", tmp_path / "norm_stats.json")
    assert molmoact2(*words) == BAD_INPUT
    assert "does not say in which calibration" in capsys.readouterr().err
    assert molmoact2(*words, "--units", "model", "--horizon", 12, "--setup-type", "my arm") == OK
    entry = json.loads((tmp_path / "norm_stats.json").read_text())["metadata_by_tag"]["mine"]
    assert (entry["action_horizon"], entry["n_action_steps"], entry["setup_type"]) == (12, 12, "my arm")
    told = capsys.readouterr().out
    assert "mine: 90 frames, units of so100_so101_molmoact2; quantiles of all frames together" in told
    assert molmoact2(*words, "--units", "model") == BAD_INPUT
    assert "has norm tag 'mine' already" in capsys.readouterr().err


def test_stats_refuses_an_unknown_embodiment_and_writes_nothing(sound, tmp_path, capsys):
    out = tmp_path / "norm_stats.json"
    assert molmoact2("stats", sound, "--tag", "x", "--embodiment", "aloha", "-o", out) == BAD_INPUT
    assert "there is no embodiment 'aloha'" in capsys.readouterr().err and not out.exists()


# --- filter -----------------------------------------------------------------------------------------------------------
def test_filter_writes_a_list_and_says_why(spoilt, tmp_path, capsys):
    assert molmoact2("filter", spoilt, "-o", tmp_path / "kept") == OK
    told = capsys.readouterr().out
    assert "30 of 90 frames kept (33.3%), 1 of 3 episodes" in told and "unreadable" in told
    _, parts = open_kept(tmp_path / "kept")
    assert [(part.episode.index, part.first, part.end) for part in parts] == [(0, 0, 30)]
    content = json.loads((tmp_path / "kept/meta/filter_report.json").read_text())
    assert content["data"][0]["removed"]["unreadable"]["episodes"] == 2
    assert (tmp_path / "kept/meta/filter_report.txt").read_text().strip() in told
    assert molmoact2("filter", spoilt, "-o", tmp_path / "kept") == BAD_INPUT
    assert "exists already; replace it with --force" in capsys.readouterr().err
    assert molmoact2("filter", spoilt, "-o", tmp_path / "kept", "--force") == OK


def test_filter_can_put_its_list_into_the_data_set(spoilt, tmp_path):
    root = shutil.copytree(spoilt, tmp_path / "own")
    assert molmoact2("filter", root, "-o", root) == OK
    assert len(open_kept(root)[1]) == 1 and len(Dataset(root).episodes) == 3


def test_several_data_sets_get_a_folder_each(sound, spoilt, tmp_path, capsys):
    assert molmoact2("filter", sound, spoilt, "-o", tmp_path / "all") == OK
    assert [len(open_kept(tmp_path / "all" / name)[1]) for name in ("cubes", "mess")] == [3, 1]
    assert molmoact2("filter", sound, sound, "-o", tmp_path / "two") == BAD_INPUT
    assert "two data sets are named cubes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--off", "nosuch"), "there is no rule 'nosuch'"),
        (("--set", "idle.seconds"), "expected RULE.NAME=VALUE"),
        (("--set", "idle.seconds=["), "'[' is no value in YAML"),
        (("--set", "idle.seconds=long"), "idle.seconds is 'long'"),
        (("--off", "idle", "--set", "idle.seconds=3"), "rule idle is off"),
        (("--rules", "nosuch.yaml"), "nosuch.yaml cannot be read"),
    ],
)
def test_filter_refuses_rules_that_there_are_not(sound, tmp_path, capsys, options, words):
    assert molmoact2("filter", sound, "-o", tmp_path / "kept", *options) == BAD_INPUT
    assert words in capsys.readouterr().err and not (tmp_path / "kept").exists()


def test_filter_never_writes_into_another_data_set(sound, spoilt, capsys):
    assert molmoact2("filter", spoilt, "-o", sound) == BAD_INPUT
    assert "is another data set" in capsys.readouterr().err and not (sound / KEEP).exists()


def test_filter_can_write_a_data_set_with_what_is_known_of_its_frames(tmp_path):
    states = moving(60, 6)
    states[30:] += 5    # a jump
    with DatasetWriter(
        tmp_path / "set", 10, SO101, {"front": (32, 48)}, "so101", {"units": "ros"}, {"front": (4, 6)}
    ) as writer:
        writer.begin("put it there", 60, {"outcome": "succeeded"})
        for frame in range(60):
            image = np.full((32, 48, 3), 4 * frame, np.uint8)
            row = Row(states[frame], states[frame], {"front": image}, {"front": np.full((4, 6), frame, np.uint16)})
            writer.add(row)
        writer.end()
        keys = [{"episode_index": 0, "frame_index": frame, "camera": "front"} for frame in range(60)]
        writer.companion(DEPTH_CODES).add([key | {"codes": [key["frame_index"]] * 4} for key in keys])
        writer.companion(POINTS).add([keys[31] | {"phrase": "cup", "across": 0.5, "down": 0.25}])
        (writer.root / "meta").mkdir(exist_ok=True)
        (writer.root / "meta/depth_codes.json").write_text("{}")
    assert molmoact2("filter", tmp_path / "set", "-o", tmp_path / "new", "--write", "--only", "jump") == OK
    new = Dataset(tmp_path / "new")
    assert [(e.length, e.task, e.extra) for e in new.episodes] == [(30, "put it there", {"outcome": "succeeded"})] * 2
    assert new.notes == {"units": "ros"} and new.info["robot_type"] == "so101"
    second = new.episodes[1]
    assert np.array_equal(new.vectors(second).state, states[30:])
    assert [int(image[0, 0]) for image in new.depth(second, "front")] == list(range(30, 60))
    levels = [image.mean() for image in new.pictures(second, "front")]
    assert np.allclose(levels, 4 * np.arange(30, 60), atol=3)
    codes = {row["frame_index"]: row["codes"][0] for row in Companion(new.root, DEPTH_CODES).rows(1)}
    assert codes == {frame: frame + 30 for frame in range(30)}
    assert [row["frame_index"] for row in Companion(new.root, POINTS).rows(1)] == [1]
    assert Companion(new.root, POINTS).rows(0) == [] and Companion(new.root, QUESTIONS).rows(0) == []
    assert (new.root / "meta/depth_codes.json").read_text() == "{}"
    assert (new.root / "meta/filter_report.txt").is_file() and not (new.root / KEEP).exists()


def test_actions_of_other_values_than_the_states_are_not_written_as_if_they_were_the_same(tmp_path, capsys):
    root = write_set(tmp_path / "set", [moving(12)])
    edit_feature(root, "action", names=["b", "a"])
    assert molmoact2("filter", root, "-o", tmp_path / "new", "--write", "--only", "short") == BAD_INPUT
    assert "the values of action are named b, a, those of observation.state a, b" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_a_new_set_does_not_hold_of_the_old_one_is_named(tmp_path, capsys):
    root = write_set(tmp_path / "set", [moving(12)])
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.tactile"] = {"dtype": "float32", "shape": [3], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert molmoact2("filter", root, "-o", tmp_path / "new", "--write", "--only", "short") == OK
    said = f"not written of {root}: observation.tactile (the list"
    assert said in capsys.readouterr().out and said in (tmp_path / "new/meta/filter_report.txt").read_text()
    assert molmoact2("filter", root, "-o", tmp_path / "list", "--only", "short") == OK
    assert "not written" not in capsys.readouterr().out


@pytest.mark.parametrize("how", [["--write"], []])
def test_a_data_set_of_nothing_is_not_written(sound, tmp_path, capsys, how):
    out = tmp_path / "new"
    assert molmoact2("filter", sound, "-o", out, *how, "--set", "short.seconds=9") == BAD_INPUT
    assert "nothing of" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
