# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hand_made import (
    CAMERA,
    FPS,
    SIZE,
    edit_column,
    edit_feature,
    edit_info,
    encode,
    following,
    moving,
    scene,
    write_older,
    write_set,
)
from pyarrow import parquet

from molmoact2_data.checking import check
from molmoact2_data.keep import open_kept
from molmoact2_data.layout import DatasetError
from molmoact2_data.reader import Dataset

LENGTHS = (9, 14)
STATES = [moving(length, seed=length) for length in LENGTHS]
VIDEO = f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
TABLE = "data/chunk-000/episode_000001.parquet"


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Path:
    return write_older(tmp_path_factory.mktemp("older") / "set", STATES)


@pytest.fixture
def spoilt(older, tmp_path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(older, tmp_path / "spoilt")


def read_all(root: Path) -> list:
    dataset = Dataset(root)
    return [sample for episode in dataset.episodes for sample in dataset.samples(episode)]


def problems(root: Path) -> str:
    return "\n".join(check(*open_kept(root)))


def test_where_looking_ended_is_told(tmp_path):
    root = write_older(tmp_path / "set", STATES)
    for video in root.glob("videos/**/*.mp4"):
        video.unlink()
    dataset, parts = open_kept(root)
    found = check(dataset, parts, most=1)
    assert len(found) == 2 and "is missing" in found[0]
    assert found[1] == f"{root}: {len(LENGTHS) - 1} more episodes were not looked at after so much"
    assert not any("not looked at" in text for text in check(dataset, parts))


# --- what is read -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("as_images", [False, True])
def test_a_set_of_version_2_1_reads_as_it_was_recorded(tmp_path, as_images):
    root = write_older(tmp_path / "set", STATES, as_images=as_images)
    dataset = Dataset(root)
    assert dataset.joints == ["a", "b"] and dataset.cameras == ["front"] and dataset.fps == FPS
    assert [(e.index, e.length, e.task) for e in dataset.episodes] == [
        (index, length, f"do thing number {index}") for index, length in enumerate(LENGTHS)
    ]
    for episode, states in zip(dataset.episodes, STATES, strict=True):
        samples = list(dataset.samples(episode))
        assert np.array_equal([s.state for s in samples], states)
        assert np.array_equal([s.action for s in samples], following(states))
        assert np.allclose([s.time for s in samples], np.arange(len(states)) / FPS)
        for frame, sample in enumerate(samples):
            off = np.abs(sample.images["front"].astype(int) - scene(frame, episode.index)).mean()
            assert off == 0 if as_images else off < 4
    assert check(*open_kept(root)) == []


def test_versions_2_1_and_3_read_alike(older, tmp_path):
    new = write_set(tmp_path / "new", STATES)
    for old, now in zip(read_all(older), read_all(new), strict=True):
        assert np.array_equal(old.state, now.state) and np.array_equal(old.action, now.action)
        assert np.abs(old.images["front"].astype(int) - now.images["front"]).mean() < 6


@pytest.mark.parametrize("key_frames", [1, 7, 1000])
def test_frames_at_random_are_those_of_the_whole_reading(tmp_path, key_frames):
    """Near ones, far ones that are sought, and the last."""
    root = write_older(tmp_path / "set", [moving(120)], key_frames=key_frames)
    dataset = Dataset(root)
    (episode,) = dataset.episodes
    whole = list(dataset.samples(episode))
    for wanted in ([0, 1, 2], [5, 40, 41, 90, 119], [119], [], list(range(0, 120, 7))):
        found = list(dataset.frames(episode, wanted))
        assert len(found) == len(wanted)
        for frame, sample in zip(wanted, found, strict=True):
            assert np.array_equal(sample.images["front"], whole[frame].images["front"])
            assert np.array_equal(sample.state, whole[frame].state) and sample.time == whole[frame].time


def test_episodes_of_one_video_can_be_read_side_by_side_and_be_left_half_way(tmp_path):
    """Videos stay open between uses; no use may see where another one was."""
    dataset = Dataset(write_set(tmp_path / "set", [moving(20, seed=episode) for episode in range(6)]))
    whole = [list(dataset.samples(episode)) for episode in dataset.episodes]
    for _ in range(3):
        readers = [iter(dataset.samples(episode)) for episode in dataset.episodes]
        for frame in range(7):
            for episode, reader in enumerate(readers):
                assert np.array_equal(next(reader).images["front"], whole[episode][frame].images["front"])
    again = [list(dataset.samples(episode)) for episode in dataset.episodes]
    for one, other in zip(whole, again, strict=True):
        assert all(np.array_equal(a.images["front"], b.images["front"]) for a, b in zip(one, other, strict=True))


def test_version_2_0_is_read_like_2_1(spoilt):
    edit_info(spoilt, codebase_version="v2.0")
    assert len(read_all(spoilt)) == sum(LENGTHS) and check(*open_kept(spoilt)) == []


def test_an_instruction_may_hold_any_character(spoilt):
    """JSON has line separators of its own in texts, which end no line of the file."""
    words = "put it\u2028down\u0085there"
    path = spoilt / "meta/episodes.jsonl"
    rows = [json.loads(line) | {"tasks": [words]} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows), "utf8")
    assert {episode.task for episode in Dataset(spoilt).episodes} == {words}


@pytest.mark.parametrize("frames", [[3, 1], [2, 2], [-1], [9]])
def test_frames_that_there_are_not_are_refused(older, frames):
    dataset = Dataset(older)
    with pytest.raises(DatasetError, match="rising numbers from 0 to 8"):
        list(dataset.frames(dataset.episodes[0], frames))


def test_a_camera_may_have_any_name_and_channels_may_come_first(spoilt):
    features = Dataset(spoilt).features
    features["observation.image"] = features.pop(CAMERA) | {
        "shape": [3, *SIZE], "names": ["channels", "height", "width"]
    }
    edit_info(spoilt, features=features)
    (spoilt / f"videos/chunk-000/{CAMERA}").rename(spoilt / "videos/chunk-000/observation.image")
    assert Dataset(spoilt).cameras == ["observation.image"] and len(read_all(spoilt)) == sum(LENGTHS)


def test_a_video_with_more_frames_a_second_gives_the_images_of_the_frames_times(spoilt):
    doubled = [scene(frame // 2, 1) for frame in range(2 * LENGTHS[1])]
    encode(spoilt / VIDEO, doubled, rate=2 * FPS)
    dataset = Dataset(spoilt)
    for frame, sample in enumerate(dataset.samples(dataset.episodes[1])):
        assert np.abs(sample.images["front"].astype(int) - scene(frame, 1)).mean() < 4
    assert "has 20 frames a second, 10 are stated" in problems(spoilt)


# --- what is wrong ----------------------------------------------------------------------------------------------------
def test_a_missing_video_is_named(spoilt):
    (spoilt / VIDEO).unlink()
    assert problems(spoilt) == f"{spoilt / VIDEO} is missing"
    with pytest.raises(DatasetError, match="episode_000001.mp4 cannot be read"):
        read_all(spoilt)


def test_a_video_that_ends_early_is_named_with_the_frame(spoilt):
    encode(spoilt / VIDEO, [scene(frame) for frame in range(8)])
    assert "episode_000001.mp4 ends at 0.80 s; the last frame of episode 1 is at 1.30 s" in problems(spoilt)
    with pytest.raises(DatasetError, match="episode_000001.mp4 ends before frame 8"):
        read_all(spoilt)


def test_a_video_of_a_lower_rate_is_named_with_the_frame(spoilt):
    encode(spoilt / VIDEO, [scene(frame) for frame in range(14)], rate=FPS // 2)
    assert "has 5 frames a second, 10 are stated" in problems(spoilt)
    with pytest.raises(DatasetError, match="has no image for frame 1 of its episode at 0.100 s"):
        read_all(spoilt)


def test_a_video_of_another_size_is_named(spoilt):
    encode(spoilt / VIDEO, [scene(frame)[:, :32] for frame in range(14)])
    assert "has 32 x 32 pixels, 48 x 32 is stated" in problems(spoilt)
    with pytest.raises(DatasetError, match="32 x 32 pixels, 48 x 32 is stated"):
        read_all(spoilt)


def test_what_is_no_video_is_named(spoilt):
    (spoilt / VIDEO).write_bytes(b"no video at all")
    assert "episode_000001.mp4 cannot be read" in problems(spoilt)


@pytest.mark.parametrize("column", ["observation.state", "timestamp", "episode_index"])
def test_a_missing_column_is_named(spoilt, column):
    table = parquet.read_table(spoilt / TABLE)
    parquet.write_table(table.drop_columns([column]), spoilt / TABLE)
    assert f"{TABLE}: column '{column}' is missing" in problems(spoilt)


def test_numbers_that_are_none_are_named_with_their_frame(spoilt):
    edit_column(spoilt / TABLE, "action", lambda rows: [*rows[:4], [0.0, float("nan")], *rows[5:]])
    assert "episode 1: action is not finite in frame 4" in problems(spoilt)


def test_vectors_of_another_shape_are_named(spoilt):
    edit_column(spoilt / TABLE, "observation.state", lambda rows: [[*row, 0.0] for row in rows])
    assert "observation.state of episode 1 has 42 numbers in 14 frames, 2 in each are stated" in problems(spoilt)


def test_frames_at_another_rate_are_named(spoilt):
    edit_column(spoilt / TABLE, "timestamp", lambda times: [2 * time for time in times])
    assert "episode 1: 200 ms lie between frames 0 and 1, 100 ms are stated" in problems(spoilt)


def test_an_episode_of_another_length_is_named(spoilt):
    table = parquet.read_table(spoilt / TABLE)
    parquet.write_table(table.slice(0, 10), spoilt / TABLE)
    assert "episode 1 has 10 frames, the meta data say 14" in problems(spoilt)


def test_an_image_that_is_none_is_named(tmp_path):
    root = write_older(tmp_path / "set", STATES, as_images=True)
    edit_column(root / TABLE, CAMERA, lambda cells: [{"bytes": b"torn", "path": ""}, *cells[1:]])
    with pytest.raises(DatasetError, match="front of episode 1, frame 0: the image cannot be decoded"):
        read_all(root)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: edit_info(root, codebase_version="v1.6"), "is of version v1.6; v2.0, v2.1 and v3.0 are read"),
        (lambda root: edit_info(root, fps="ten"), "'fps' is missing or of another kind"),
        (lambda root: edit_info(root, fps=0), "'fps' is 0"),
        (lambda root: edit_info(root, video_path=None), "'video_path' is missing, and there are videos"),
        (lambda root: edit_info(root, data_path="data/{file}.parquet"), "is not as v2.1 has it"),
        (lambda root: edit_info(root, chunks_size=0), "'chunks_size' is missing"),
        (lambda root: edit_info(root, features={}), "has no observation.state"),
        (lambda root: edit_feature(root, "action", shape="two"), "feature 'action' has no dtype, or no shape"),
        (lambda root: edit_feature(root, CAMERA, names=7), f"'names' of feature '{CAMERA}' is 7"),
        (lambda root: (root / "meta/episodes.jsonl").unlink(), "episodes.jsonl cannot be read"),
        (lambda root: (root / "meta/episodes.jsonl").write_text(""), "has no episodes"),
        (lambda root: (root / "meta/episodes.jsonl").write_text("{}\n"), "a line lacks 'episode_index'"),
        (lambda root: (root / "meta/tasks.jsonl").write_text("no json"), "tasks.jsonl cannot be read"),
        (lambda root: (root / "meta/info.json").unlink(), "is no LeRobot dataset"),
    ],
)
def test_a_set_that_is_not_as_its_version_has_it_is_refused(spoilt, spoil, words):
    spoil(spoilt)
    with pytest.raises(DatasetError, match=words):
        Dataset(spoilt)


def test_stated_sizes_that_are_wrong_are_named(spoilt):
    edit_feature(spoilt, CAMERA, shape=[64, 64, 3])
    assert "has 48 x 32 pixels, 64 x 64 is stated" in problems(spoilt)
