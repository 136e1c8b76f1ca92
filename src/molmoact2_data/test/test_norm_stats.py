# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hand_made import edit_column, edit_feature, edit_info, moving, write_older, write_set
from pyarrow import compute, dataset

from molmoact2_contract import find_resource
from molmoact2_data.embodiments import check_as_they_are, check_rate, embodiment, frame_of
from molmoact2_data.keep import Part, write_keep
from molmoact2_data.layout import DatasetError
from molmoact2_data.norm_stats import WEIGHTED, still_values, tag_entry, write_norm_stats
from molmoact2_data.reader import Dataset

SO101 = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
YAM = (*(f"joint_{i}" for i in range(6)), "gripper")
NAMES = {
    "so101": SO101,
    "yam_bimanual": tuple(f"{side}_{joint}" for side in ("left", "right") for joint in YAM),
    "franka_droid": (*(f"fr3_joint{i}" for i in range(1, 8)), "gripper"),
    "yam_single": YAM,
}  # fmt: skip
TAGS = {"so101": "so100_so101_molmoact2", "yam_bimanual": "yam_dual_molmoact2"}
TAGS |= {robot: robot for robot in ("franka_droid", "yam_single")}
LENGTHS = (30, 55, 12)


def arm_set(root: Path, robot: str, lengths=LENGTHS, seed=0, **options) -> Path:
    names = [f"{name}.pos" for name in NAMES[robot]]
    states = [moving(length, len(names), seed + i) * (1 + i + seed) for i, length in enumerate(lengths)]
    return write_set(root, states, names=names, **options)


def entry_of(roots: list[Path], robot: str, tag: str = "", units: str | None = "model", **options) -> dict:
    one = embodiment(robot, tag or TAGS[robot])
    return tag_entry(roots, one, lambda data: frame_of(data, one, units, False), **options)


@pytest.mark.parametrize("robot", NAMES)
def test_figures_are_those_of_an_independent_count_over_all_frames(tmp_path, robot):
    """By pyarrow, on the raw tables of both data sets."""
    roots = [arm_set(tmp_path / "one", robot), arm_set(tmp_path / "two", robot, (9, 80), 3)]
    entry = entry_of(roots, robot)
    raw = dataset.dataset([str(f) for root in roots for f in root.glob("data/*/*.parquet")]).to_table()
    for kind, column in (("state", "observation.state"), ("action", "action")):
        figures = entry[f"{kind}_stats"]
        assert figures["count"] == [len(raw)] == [30 + 55 + 12 + 9 + 80]
        for joint in range(len(NAMES[robot])):
            values = compute.cast(compute.list_element(raw[column], joint), pyarrow.float64())
            for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
                (wanted,) = compute.quantile(values, share, interpolation="linear").to_pylist()
                assert figures[name][joint] == pytest.approx(wanted, abs=1e-9)
            assert figures["mean"][joint] == pytest.approx(compute.mean(values).as_py(), abs=1e-9)
            assert figures["std"][joint] == pytest.approx(compute.stddev(values, ddof=0).as_py(), abs=1e-9)
            assert (figures["min"][joint], figures["max"][joint]) == tuple(compute.min_max(values).as_py().values())


@pytest.mark.parametrize(
    ("robot", "setup", "horizon", "masked"),
    [
        ("so101", "single so100/so101 robotic arm in molmoact2", 30, []),
        ("yam_bimanual", "bimanual yam robotic arms in molmoact2", 30, [6, 13]),
        ("franka_droid", "single franka robotic arm in droid", 15, [7]),
        ("yam_single", "single yam robotic arm", 30, [6]),
    ],
)
def test_an_entry_has_the_released_layout(tmp_path, robot, setup, horizon, masked):
    entry = entry_of([arm_set(tmp_path / "set", robot)], robot)
    shipped = json.loads((find_resource("checkpoints", "molmoact2-tiny-think-so101") / "norm_stats.json").read_text())
    (known,) = shipped["metadata_by_tag"].values()
    assert set(known) == set(entry) and set(known["state_stats"]) <= set(entry["state_stats"])
    assert entry["setup_type"] == setup and entry["action_horizon"] == entry["n_action_steps"] == horizon
    assert [i for i, used in enumerate(entry["action_stats"]["mask"]) if not used] == masked
    assert entry["normalize_gripper"] == (not masked)
    assert entry["camera_keys"] == ["observation.images.front"]


def test_quantiles_can_be_the_weighted_means_of_the_release(tmp_path):
    roots = [arm_set(tmp_path / "one", "so101"), arm_set(tmp_path / "two", "so101", (9, 80), 3)]
    alone = [entry_of([root], "so101")["state_stats"] for root in roots]
    both = entry_of(roots, "so101", combine=WEIGHTED)["state_stats"]
    for name in ("q01", "q99"):
        wanted = (97 * np.array(alone[0][name]) + 89 * np.array(alone[1][name])) / (97 + 89)
        assert np.allclose(both[name], wanted)
        assert not np.allclose(both[name], entry_of(roots, "so101")["state_stats"][name])
    assert both["min"] == np.minimum(alone[0]["min"], alone[1]["min"]).tolist()


# --- units ------------------------------------------------------------------------------------------------------------
SIGNS, OFFSETS = np.array([1, -1, 1, 1, 1, 1]), np.array([0, 90, 90, 0, 0, 0])


def test_the_present_calibration_of_so101_becomes_the_one_of_the_release(tmp_path):
    root = arm_set(tmp_path / "set", "so101")
    one = embodiment("so101", TAGS["so101"])
    frame = frame_of(Dataset(root), one, "lerobot", False)
    degrees = np.array([[10.0, 20, -30, 40, 50, 60]], np.float32)
    assert np.allclose(frame.to_model(degrees), SIGNS * degrees + OFFSETS)


def test_radians_become_the_tags_own_units(tmp_path):
    root = arm_set(tmp_path / "set", "so101", notes={"units": "ros", "norm_tag": "so101_sim_molmoact2_tiny"})
    radians = np.array([0.1, -0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    wanted = SIGNS * np.append(np.degrees(radians[:5]), 60) + OFFSETS
    for tag, values in ((TAGS["so101"], wanted), ("so101_sim_molmoact2_tiny", radians), ("my_arm", wanted)):
        frame = frame_of(Dataset(root), embodiment("so101", tag), None, False)
        assert np.allclose(frame.to_model(radians), values, atol=1e-4), tag


def test_values_in_another_order_are_put_in_the_embodiments(tmp_path):
    names = [f"{name}.pos" for name in reversed(SO101)]
    root = write_set(tmp_path / "set", [moving(20, 6)], names=names)
    frame = frame_of(Dataset(root), embodiment("so101", TAGS["so101"]), "model", False)
    assert frame.to_model(np.arange(6, dtype=np.float32)).tolist() == [5, 4, 3, 2, 1, 0]


def test_a_calibration_that_nobody_stated_is_asked_for(tmp_path):
    with pytest.raises(DatasetError, match="does not say in which calibration its numbers are; say --units"):
        entry_of([arm_set(tmp_path / "set", "so101")], "so101", units=None)


def test_units_of_another_norm_tag_are_refused(tmp_path):
    root = arm_set(tmp_path / "set", "so101", notes={"units": "model", "norm_tag": "so101_sim_molmoact2_tiny"})
    said = "in the units of norm tag 'so101_sim_molmoact2_tiny', which are not .*or name the tag 'so101_sim"
    with pytest.raises(DatasetError, match=said):
        entry_of([root], "so101", units=None)


def test_units_that_contradict_what_the_data_set_says_of_itself_are_refused(tmp_path):
    root = arm_set(tmp_path / "set", "so101", notes={"units": "ros", "contract": "so101"})
    with pytest.raises(DatasetError, match="says that its units are 'ros' .*, not 'lerobot'; leave the units out"):
        entry_of([root], "so101", units="lerobot")
    with pytest.raises(DatasetError, match="norm tag 'so100_so101_molmoact2' has others; say units: ros beside"):
        check_as_they_are(Dataset(root), TAGS["so101"])
    same = "so101_sim_molmoact2_tiny"    # whose units are those of ROS
    check_as_they_are(Dataset(root), same)
    assert frame_of(Dataset(root), embodiment("so101", same), "model", False).is_identity


def test_data_of_another_rate_than_the_norm_tags_is_refused(tmp_path):
    root, robot = arm_set(tmp_path / "set", "so101"), embodiment("so101", TAGS["so101"])
    with pytest.raises(DatasetError, match="has 10 frames a second, norm tag 'so100_so101_molmoact2' 30 waypoints"):
        check_rate(Dataset(root), robot, TAGS["so101"])
    check_rate(Dataset(root), embodiment("so101", "my_own_tag"), "my_own_tag")    # of which nothing is known
    edit_info(root, fps=30)
    check_rate(Dataset(root), robot, TAGS["so101"])


def test_only_so101_has_a_calibration_of_lerobots(tmp_path):
    with pytest.raises(DatasetError, match="yam_bimanual has none of its own there"):
        entry_of([arm_set(tmp_path / "set", "yam_bimanual")], "yam_bimanual", units="lerobot")


# --- what is refused --------------------------------------------------------------------------------------------------
def test_an_unknown_embodiment_is_refused_by_name():
    with pytest.raises(DatasetError, match="no embodiment 'widowx'; there are: so101, yam_bimanual, .*, yam_single"):
        embodiment("widowx", "any")


def test_another_robots_values_are_refused(tmp_path):
    root = arm_set(tmp_path / "droid", "franka_droid")
    with pytest.raises(DatasetError, match="observation.state has 8 values, so101 has 6"):
        entry_of([root], "so101")
    other = write_set(tmp_path / "other", [moving(20, 6)], names=list("abcdef"))
    with pytest.raises(DatasetError, match="are named a, b, c, d, e, f, those of so101 shoulder_pan"):
        entry_of([other], "so101")
    one = embodiment("so101", TAGS["so101"])
    assert tag_entry([other], one, lambda data: frame_of(data, one, "model", True))["action_stats"]["names"][0] == (
        "shoulder_pan.pos"
    )


def test_state_and_action_in_different_orders_are_refused(tmp_path):
    root = arm_set(tmp_path / "set", "so101")
    edit_feature(root, "action", names=[f"{name}.pos" for name in reversed(SO101)])
    with pytest.raises(DatasetError, match="have their values in another order"):
        entry_of([root], "so101")


def test_numbers_that_are_none_are_refused(tmp_path):
    root = write_older(tmp_path / "set", [moving(20, 6), moving(20, 6)], names=SO101)
    table = root / "data/chunk-000/episode_000001.parquet"
    edit_column(table, "observation.state", lambda rows: [*rows[:-1], [float("inf")] * 6])
    with pytest.raises(DatasetError, match="observation.state of episode 1 is not finite; leave it out"):
        entry_of([root], "so101")


def test_a_camera_that_a_set_lacks_is_named(tmp_path):
    with pytest.raises(DatasetError, match="has no camera 'wrist'; it has: front"):
        entry_of([arm_set(tmp_path / "set", "so101")], "so101", cameras=["front", "wrist"])


def test_cameras_come_in_the_norm_tags_order(tmp_path):
    root = arm_set(tmp_path / "set", "so101", (12,), cameras=["wrist", "front"])
    keys = entry_of([root], "so101")["camera_keys"]
    assert keys == ["observation.images.front", "observation.images.wrist"]


# --- the file ---------------------------------------------------------------------------------------------------------
def test_only_frames_that_are_kept_count(tmp_path):
    root = arm_set(tmp_path / "set", "so101")
    data = Dataset(root)
    write_keep(tmp_path / "kept", data, [Part(data.episodes[1], 5, 25)], {})
    figures = entry_of([tmp_path / "kept"], "so101")["state_stats"]
    states = data.vectors(data.episodes[1]).state[5:25]
    assert figures["count"] == [20] and np.allclose(figures["max"], states.max(axis=0))


def test_a_file_gets_one_tag_beside_the_other_and_none_is_lost(tmp_path):
    entry = entry_of([arm_set(tmp_path / "set", "so101")], "so101")
    path = tmp_path / "norm_stats.json"
    write_norm_stats(path, "first", entry, "q01_q99", False)
    write_norm_stats(path, "second", entry, "q01_q99", False)
    before = path.read_text()
    assert list(json.loads(before)["metadata_by_tag"]) == ["first", "second"]
    for refused, words in (
        (lambda: write_norm_stats(path, "second", entry, "q01_q99", False), "has norm tag 'second' already"),
        (lambda: write_norm_stats(path, "third", entry, "min_max", False), "has norm_mode 'q01_q99' for all its tags"),
    ):
        with pytest.raises(DatasetError, match=words):
            refused()
    assert path.read_text() == before
    write_norm_stats(path, "second", entry | {"setup_type": "new"}, "q01_q99", True)
    assert json.loads(path.read_text())["metadata_by_tag"]["second"]["setup_type"] == "new"
    path.write_text("{}")
    with pytest.raises(DatasetError, match="is no norm statistics"):
        write_norm_stats(path, "first", entry, "q01_q99", True)


def test_a_joint_that_hardly_moves_is_named(tmp_path):
    states = moving(300, 6)
    states[:, 3] = 0.5
    states[7, 3] = 9.0
    root = write_set(tmp_path / "set", [states], names=SO101)
    assert "state wrist_flex.pos" in still_values(entry_of([root], "so101"))


def test_older_sets_count_too(tmp_path):
    old = write_older(tmp_path / "old", [moving(40, 6)], names=SO101)
    new = write_set(tmp_path / "new", [moving(40, 6)], names=SO101)
    assert entry_of([old], "so101")["state_stats"] == entry_of([new], "so101")["state_stats"]
