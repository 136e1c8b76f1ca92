# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""`molmoact2 convert`: bags that hold what a robot's nodes publish, as datasets and back."""

import json
import shutil

import av
import numpy as np
import pyarrow
import pytest
from bag_samples import JOINTS, STATUSES, TOP, TRACES, copied, record_a_run, replayed
from dataset_runs import BEGIN, DEPTH, HZ, NAMES, SPEED, angle, write_run
from pyarrow import parquet
from tiny_robot import CHECKPOINT, CONTRACT, TAG, image, picture

from molmoact2_contract import cli
from molmoact2_data.reader import Dataset
from molmoact2_data.statistics import Pixels
from molmoact2_policy.bags.bag import Bag
from molmoact2_policy.datasets.from_bag import Ticks
from molmoact2_policy.model_frame import ModelFrame


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "bag")


@pytest.fixture
def convert(tmp_path, capsys):
    def run(*arguments, out=None):
        named = ["--contract", str(CONTRACT.path), "--norm-tag", TAG.name]
        root = out or tmp_path / "dataset"
        code = cli.main(["convert", *map(str, arguments), "--out", str(root), *named])
        return code, root, "".join(capsys.readouterr())

    return run


def table(root, pattern):
    return parquet.read_table(next(root.glob(pattern)))


def test_each_task_becomes_an_episode_with_its_words_and_its_end(bag, convert):
    code, root, printed = convert(bag)
    assert code == 0, printed
    episodes = table(root, "meta/episodes/*/*.parquet").to_pylist()
    assert [e["molmoact2/outcome"] for e in episodes] == ["succeeded", "faulted", "unknown"]
    assert [e["tasks"] for e in episodes] == [["task 0"], ["task 1"], ["task 0"]]
    # Of the last frame of a run it is not known what the arm was told by the next.
    assert [e["length"] for e in episodes] == [30, 25, 14]
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 69, 2, HZ)
    assert info["features"]["observation.state"]["names"] == list(NAMES)


def test_rows_are_what_was_measured_and_what_the_arm_was_told_by_the_next_frame(bag, convert):
    _, root, _ = convert(bag)
    data = table(root, "data/*/*.parquet")
    states, actions = (np.array(data[name].to_pylist()) for name in ("observation.state", "action"))
    assert states[:, 0] == pytest.approx([angle(tick) for tick in range(69)], abs=1e-6)
    assert actions[:, 0] == pytest.approx([angle(tick + 1) for tick in range(69)], abs=1e-6)
    assert data["index"].to_pylist() == list(range(69))
    assert data["frame_index"].to_pylist() == [*range(30), *range(25), *range(14)]
    assert data["timestamp"].to_pylist() == pytest.approx([i / HZ for i in data["frame_index"].to_pylist()])
    assert data["task_index"].to_pylist() == [0] * 30 + [1] * 25 + [0] * 14


def test_the_video_holds_a_picture_for_every_row_at_the_place_that_the_episodes_name(bag, convert):
    _, root, _ = convert(bag)
    with av.open(str(next(root.glob("videos/observation.images.top/*/*.mp4")))) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert levels == pytest.approx([2 * tick for tick in range(69)], abs=3)
    spans = [
        (e["videos/observation.images.top/from_timestamp"], e["videos/observation.images.top/to_timestamp"])
        for e in table(root, "meta/episodes/*/*.parquet").to_pylist()
    ]
    assert spans == [pytest.approx(span) for span in ((0, 1.5), (1.5, 2.75), (2.75, 3.45))]


def test_statistics_are_those_of_the_data(bag, convert):
    _, root, _ = convert(bag)
    stats = json.loads((root / "meta/stats.json").read_text())
    states = np.array(table(root, "data/*/*.parquet")["observation.state"].to_pylist())
    found = stats["observation.state"]
    for name in ("min", "max", "mean", "std"):
        assert found[name] == pytest.approx(getattr(states, name)(axis=0), abs=1e-6)
    assert found["q10"] == pytest.approx(np.quantile(states, 0.1, axis=0)) and found["count"] == [69]
    wrist = stats["observation.images.wrist"]
    assert np.shape(wrist["mean"]) == (3, 1, 1) and wrist["mean"][0][0][0] == pytest.approx(50 / 255)
    noise = picture(3, 64, 64)
    pixels = Pixels()
    pixels.add(noise)
    some = noise[::4, ::4].reshape(-1, 3) / 255
    assert np.ravel(pixels.figures()["std"]) == pytest.approx(some.std(0))
    assert np.ravel(pixels.figures()["q50"]) == pytest.approx(np.quantile(some, 0.5, axis=0, method="inverted_cdf"))


def test_episodes_are_taken_and_left_out_by_how_they_ended(bag, convert, tmp_path):
    _, root, printed = convert(bag, "--only", "succeeded", out=tmp_path / "good")
    assert [e["length"] for e in table(root, "meta/episodes/*/*.parquet").to_pylist()] == [30]
    assert "25 frames of episodes that ended: faulted" in printed
    _, root, _ = convert(bag, "--leave-out", "faulted,unknown", out=tmp_path / "others")
    assert [e["length"] for e in table(root, "meta/episodes/*/*.parquet").to_pylist()] == [30]
    code, _, printed = convert(bag, "--only", "canceled", out=tmp_path / "none")
    assert code == 2 and "no episode to write" in printed and not (tmp_path / "none").exists()


def test_an_episode_is_split_where_frames_are_missing_and_nothing_is_made_up(tmp_path, convert):
    code, root, printed = convert(write_run(tmp_path / "gappy", missing_frames=(12, 13)), "--shortest", 5)
    assert code == 0 and "1 gaps, at which an episode was split" in printed
    assert [e["length"] for e in table(root, "meta/episodes/*/*.parquet").to_pylist()] == [12, 16, 25, 14]


def test_in_the_models_units_values_are_the_norm_tags(bag, convert, tmp_path):
    _, ros, _ = convert(bag, out=tmp_path / "ros")
    _, model, _ = convert(bag, "--units", "model", out=tmp_path / "model")
    there, here = (np.array(table(r, "data/*/*.parquet")["action"].to_pylist()) for r in (model, ros))
    assert there == pytest.approx(ModelFrame(CONTRACT, TAG).to_model(here), abs=1e-4)


def test_several_bags_make_one_dataset(bag, convert, tmp_path):
    other = write_run(tmp_path / "other")
    code, root, _ = convert(bag, other)
    assert code == 0
    assert table(root, "data/*/*.parquet")["episode_index"].to_pylist()[-1] == 5
    assert {e["molmoact2/bag"] for e in table(root, "meta/episodes/*/*.parquet").to_pylist()} == {"bag", "other"}


# --- depth images -----------------------------------------------------------------------------------------------------
def millimetres(tick):
    """What the camera measures: 300 + tick, and a column that it does not see."""
    values = np.full((24, 32), 300 + tick, np.uint16)
    values[:, 0] = 0
    return values


def in_millimetres(tick, now):
    return image(millimetres(tick), now, "16UC1")


def in_metres(tick, now):
    values = millimetres(tick).astype(np.float32) / 1000
    values[:, 0], values[0, 0] = np.nan, -1.0
    return image(values, now, "32FC1")


@pytest.mark.parametrize("measured", [in_millimetres, in_metres])
def test_depth_images_become_those_of_the_frames_they_were_captured_with(tmp_path, convert, measured):
    code, root, printed = convert(write_run(tmp_path / "deep", depth=measured), "--depth", f"top={DEPTH}")
    assert code == 0 and "without a depth image" not in printed, printed
    dataset = Dataset(root)
    assert dataset.depth_cameras == ["top"]
    images = [image for episode in dataset.episodes for image in dataset.depth(episode, "top")]
    assert len(images) == 69
    for tick, found in enumerate(images):
        np.testing.assert_array_equal(found, millimetres(tick))


def test_the_nearest_depth_image_in_time_is_taken_and_one_too_far_is_none(tmp_path, convert):
    """It comes 20 ms late, and with the last two frames of ten not at all; the first of them has the one before."""

    def measured(tick, now):
        return None if tick % 10 in (8, 9) else in_millimetres(tick, now + 20_000_000)

    code, root, printed = convert(write_run(tmp_path / "deep", depth=measured), "--depth", f"top={DEPTH}")
    assert code == 0 and "6 frames without a depth image of top, written as not measured" in printed, printed
    dataset = Dataset(root)
    images = [image for episode in dataset.episodes for image in dataset.depth(episode, "top")]
    wanted = [{8: 299 + tick, 9: 0}.get(tick % 10, 300 + tick) for tick in range(69)]
    assert [int(image.max()) for image in images] == wanted


def test_depth_images_follow_a_clock_that_was_set_back(tmp_path, convert):
    run = write_run(tmp_path / "deep", depth=in_millimetres)

    def earlier(topic, message):
        header = getattr(message, "header", None)
        stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec if header is not None else 0
        if stamp >= BEGIN + 30 * 1_000_000_000 // HZ:
            header.stamp.sec, header.stamp.nanosec = divmod(stamp - 1_200_000_000, 1_000_000_000)
        return message

    code, root, printed = convert(copied(run, tmp_path / "back", earlier), "--shortest", 2, "--depth", f"top={DEPTH}")
    assert code == 0 and "without a depth image" not in printed, printed
    dataset = Dataset(root)
    images = [int(image.max()) for episode in dataset.episodes for image in dataset.depth(episode, "top")]
    levels = [round(s.images["top"].mean() / 2) for e in dataset.episodes for s in dataset.samples(e)]
    assert min(levels) < 10 and max(levels) > 60    # frames from both times
    assert np.abs(np.array(images) - 300 - levels).max() <= 1    # video gives a level back nearly


@pytest.mark.parametrize(
    ("option", "measured", "named"),
    [
        (f"elbow={DEPTH}", in_millimetres, "norm tag tiny_arm has the cameras top, wrist"),
        ("top=/nothing", in_millimetres, "has no sensor_msgs/msg/Image on /nothing; topics with images: "),
        (f"top={TOP}", in_millimetres, "a depth image is 16UC1 (millimetres) or 32FC1 (metres)"),
        (f"top={DEPTH}", lambda tick, now: in_millimetres(tick, now - 10**12), "check its stamps"),
        (
            f"top={DEPTH}", lambda tick, now: image(millimetres(tick)[: 24 - tick // 40], now, "16UC1"),
            "depth of camera top has shape",
        ),
    ],
)
def test_what_is_wrong_with_depth_images_is_named_and_nothing_is_written(tmp_path, convert, option, measured, named):
    code, root, printed = convert(write_run(tmp_path / "deep", depth=measured), "--depth", option)
    assert code == 2 and named in printed, printed
    assert not root.exists()


# --- back -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("units", ["ros", "model"])
def test_there_and_back_states_and_actions_are_equal_and_images_nearly(bag, convert, tmp_path, capsys, units):
    _, root, _ = convert(bag, "--units", units)
    assert cli.main(["convert", str(root), "--to-bag", str(tmp_path / "back"), "--contract", str(CONTRACT.path)]) == 0
    with Bag(tmp_path / "back") as back:
        assert back.counts[TOP] == back.counts[JOINTS] == 69
        tops = [m.data.mean() for _, _, m, _ in back.messages({TOP})]
    assert tops == pytest.approx([2 * tick for tick in range(69)], abs=3)
    code, again, printed = convert(tmp_path / "back", out=tmp_path / "again")
    assert code == 0, printed
    tasks = [e["tasks"] for e in table(again, "meta/episodes/*/*.parquet").to_pylist()]
    assert tasks == [["task 0"], ["task 1"], ["task 0"]]
    first = np.array(table(root, "data/*/*.parquet")["observation.state"].to_pylist())
    if units == "ros":
        second = np.array(table(again, "data/*/*.parquet")["observation.state"].to_pylist())
        assert first[:29] == pytest.approx(second[:29], abs=1e-6)


def test_an_episode_of_several_instructions_says_each_where_it_begins(bag, convert, tmp_path):
    _, root, _ = convert(bag)
    for pattern, name, values in (
        ("meta/episodes/*/*.parquet", "tasks", [["task 0", "task 1"], ["task 1"], ["task 0"]]),
        ("data/*/*.parquet", "task_index", [0] * 10 + [1] * 45 + [0] * 14),
    ):
        path = next(root.glob(pattern))
        whole = parquet.read_table(path)
        at = whole.column_names.index(name)
        parquet.write_table(whole.set_column(at, name, pyarrow.array(values, whole.schema.field(at).type)), path)
    assert cli.main(["convert", str(root), "--to-bag", str(tmp_path / "back"), "--contract", str(CONTRACT.path)]) == 0
    with Bag(tmp_path / "back") as back:
        said = [(status.episode_id, status.instruction) for _, _, status, _ in back.messages({STATUSES})]
        tops = [stamp for _, _, _, stamp in back.messages({TOP})]
        begins = [stamp for _, _, _, stamp in back.messages({STATUSES})]
    assert said == [
        ("episode 0", "task 0"), ("episode 0", "task 1"), ("episode 1", "task 1"), ("episode 2", "task 0"),
    ]    # fmt: skip
    assert [sum(top < begin for top in tops) for begin in begins] == [0, 10, 30, 55]


def test_a_dataset_is_replayed_like_a_bag(bag, convert, tmp_path, capsys):
    _, root, _ = convert(bag)
    code, summary, printed = replayed(
        root, tmp_path / "out", capsys, "--contract", str(CONTRACT.path), "--checkpoint", str(CHECKPOINT),
        "--num-steps", "1",
    )
    assert code == 0, printed
    assert summary["repeated"] == 69


# --- bad input --------------------------------------------------------------------------------------------------------
def test_what_is_wrong_with_a_dataset_is_named(bag, convert, tmp_path, capsys):
    _, root, _ = convert(bag)

    def to_bag(*arguments):
        wish = ["--to-bag", tmp_path / "x", "--contract", CONTRACT.path, *arguments]
        return cli.main(["convert", *map(str, wish)])

    def refused(*arguments):
        code = to_bag(*arguments)
        printed = "".join(capsys.readouterr())
        assert code == 2 and "Traceback" not in printed
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        return printed

    assert "no LeRobot dataset" in refused(tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v1.6"}))
    assert "version v1.6" in refused(root)
    info["features"]["observation.state"]["names"][0] = "tentacle"
    (root / "meta/info.json").write_text(json.dumps(info))
    assert "tentacle" in refused(root) and "--joint" in refused(root)
    assert to_bag(root, "--joint", f"tentacle={NAMES[0]}") == 0
    shutil.rmtree(tmp_path / "x")
    capsys.readouterr()
    info["features"]["observation.state"]["names"][0] = NAMES[0]
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/info.json").write_text(json.dumps({"codebase_version": "v3.0", "fps": 20}))
    assert "'features' is missing" in refused(root)
    (root / "meta/info.json").write_text(json.dumps(info))
    data = next(root.glob("data/*/*.parquet"))
    whole = parquet.read_table(data)
    parquet.write_table(whole.drop(["observation.state"]), data)
    assert "'observation.state' is missing" in refused(root)
    parquet.write_table(whole, data)
    video = next(root.glob("videos/observation.images.top/*/*.mp4"))
    video.write_bytes(video.read_bytes()[:100])
    assert video.name in refused(root)
    data.write_bytes(b"PAR1 no more")
    assert "cannot be read" in refused(root)


def test_what_is_wrong_with_a_bag_or_a_wish_is_named(bag, convert, tmp_path):
    quiet = write_run(tmp_path / "quiet", without=("/lower/status",))
    code, _, printed = convert(quiet)
    assert code == 2 and "--action measured" in printed
    code, root, printed = convert(quiet, "--action", "measured")
    assert code == 0, printed
    code, _, printed = convert(bag, out=root)
    assert code == 2 and "exists already" in printed
    silent = write_run(tmp_path / "silent", without=(STATUSES,))
    code, _, printed = convert(silent, out=tmp_path / "silent_set")
    assert code == 2 and "--instruction" in printed
    code, root, _ = convert(silent, "--instruction", "do it", out=tmp_path / "told")
    assert code == 0 and table(root, "meta/tasks.parquet")["task"].to_pylist() == ["do it"]


def test_where_a_clock_was_set_back_no_action_is_taken_from_the_time_before(bag, convert, tmp_path):
    def earlier(topic, message):
        after = BEGIN + 20 * 1_000_000_000 // HZ
        header = getattr(message, "header", None)
        if header is not None and header.stamp.sec * 1_000_000_000 + header.stamp.nanosec >= after:
            header.stamp.sec -= 2
        return message

    code, root, printed = convert(copied(bag, tmp_path / "back", earlier), "--shortest", 2)
    assert code == 0 and "known action" in printed, printed
    data = table(root, "data/*/*.parquet")
    states, actions = (np.array(data[name].to_pylist())[:, 0] for name in ("observation.state", "action"))
    assert len(states) and actions == pytest.approx(states + SPEED, abs=1e-4)


def test_a_run_of_the_real_node_becomes_a_dataset(tmp_path, convert):
    run = record_a_run(tmp_path / "live", 2)
    code, _, printed = convert(run, "--action", "measured", "--fps", 10, "--shortest", 2)
    assert code == 0 and "episodes" in printed, printed
    without = copied(run, tmp_path / "bare", lambda topic, message: message, left_out=(TRACES,))
    assert convert(without, "--action", "measured", "--fps", 10, "--shortest", 2, out=tmp_path / "b")[0] == 0


def test_ticks_follow_a_camera_that_is_a_little_slow_and_see_every_gap():
    slow, lost = Ticks(30), Ticks(30)
    assert all(slow.take(BEGIN + round(i * 1e9 / 29.9)) == (True, False) for i in range(3000))
    taken = [lost.take(BEGIN + round(i * 1e9 / 30)) for i in range(20) if i not in (7, 8)]
    assert [gap for _, gap in taken].count(True) == 1
    back = Ticks(30)
    taken = [back.take(BEGIN + round((i if i < 10 else i - 90) * 1e9 / 30)) for i in range(20)]
    assert all(take for take, _ in taken) and [gap for _, gap in taken].index(True) == 10
    half = Ticks(15)
    assert sum(half.take(BEGIN + round(i * 1e9 / 30))[0] for i in range(300)) == 150
