# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
import errno
import gc
import itertools
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hand_made import edit_column, edit_info, moving, write_older

from molmoact2_data.companions import ALTERNATIVES, POINTS, CompanionWriter
from molmoact2_data.filtering import judge
from molmoact2_data.frame import Frame
from molmoact2_data.keep import Part, open_kept, write_keep
from molmoact2_data.layout import CORRECTED, NOTES, DatasetError
from molmoact2_data.reader import Dataset
from molmoact2_data.rewrite import rewrite
from molmoact2_data.streaming import Share, Stream, TrainingFrame
from molmoact2_data.tables import RolledTable
from molmoact2_data.writer import DatasetWriter, Row

HORIZON = 5


def write(root: Path, lengths: list[int], base: int = 0, action=lambda episode, frame: frame) -> Path:
    """Episodes whose images are as bright as their frame's number, times four."""
    with DatasetWriter(root, 10, ["a", "b"], {"front": (32, 48)}, "toy", {}, {"front": (4, 6)}) as writer:
        for episode, length in enumerate(lengths):
            writer.begin(f"task {base + episode}", length, {})
            for frame in range(length):
                image = np.full((32, 48, 3), 4 * frame, np.uint8)
                depth = np.full((4, 6), 100 * episode + frame, np.uint16)
                values = np.array([base + episode, action(episode, frame)], np.float32)
                writer.add(Row(values, values, {"front": image}, {"front": depth}))
            writer.end()
            point = {"camera": "front", "phrase": "x", "across": 0.25, "down": 0.5}
            writer.companion(POINTS).add([{"episode_index": episode, "frame_index": 2, **point}])
            chunk = np.arange(2 * HORIZON, dtype=np.float32)
            row = {"episode_index": episode, "frame_index": 1, "instruction": "else", "chunk": chunk}
            writer.companion(ALTERNATIVES).add([row])
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("stream") / "toy", [7, 12, 9])


def draw(count: int, *shares: Share, **options):
    return list(itertools.islice(Stream(shares, HORIZON, 3, **options), count))


def key(frame):
    return frame.dataset, frame.episode, frame.frame


def test_a_frame_has_its_own_image_and_the_actions_that_follow_it(data):
    for frame in draw(60, Share(data), every=1, buffer=20):
        assert abs(float(frame.images["front"].mean()) - 4 * frame.frame) < 3
        length = [7, 12, 9][frame.episode]
        wanted = [min(frame.frame + step, length - 1) for step in range(HORIZON)]
        assert frame.chunk[:, 1].tolist() == wanted
        assert frame.valid.tolist() == [frame.frame + step < length for step in range(HORIZON)]
        assert frame.instruction == f"task {frame.episode}" and frame.state[1] == frame.frame
        assert frame.points == ({"x": (0.25, 0.5)} if frame.frame == 2 else {})
        assert [c.shape for c in frame.alternatives.values()] == ([(HORIZON, 2)] if frame.frame == 1 else [])


def test_points_of_the_main_camera_and_of_the_others_are_told_apart(tmp_path):
    root = write(tmp_path / "toy", [5, 5])
    points = root / "annotations" / POINTS / "chunk-000/file-000.parquet"
    edit_column(points, "camera", lambda _: ["front", "wrist"])
    for camera, other in (("front", "wrist"), ("wrist", "front")):
        stream = Stream([Share(root, camera=camera)], HORIZON, 0, every=1)
        frames = {frame.episode: frame for frame in stream.once() if frame.frame == 2}
        own, others = (frames[0], frames[1]) if camera == "front" else (frames[1], frames[0])
        assert (own.points, own.elsewhere) == ({"x": (0.25, 0.5)}, {})
        assert (others.points, others.elsewhere) == ({}, {other: {"x": (0.25, 0.5)}})


def test_every_frame_comes_once_before_any_comes_again(data):
    drawn = [key(frame) for frame in draw(28, Share(data), every=1, buffer=1)]
    assert len(set(drawn)) == 28


def test_without_a_shift_the_same_frames_of_an_episode_are_used_each_time(data):
    drawn = draw(60, Share(data), every=3, shift=False, buffer=4)
    assert {frame.frame % 3 for frame in drawn} == {0}


ODD = [(1, 7), (8, 12), (4, 6), (7, 8)]    # first and end of parts; the last one has no multiple of 3


def kept_oddly(root: Path, folder: Path) -> Path:
    dataset = Dataset(root)
    write_keep(folder, dataset, [Part(dataset.episodes[0], *span) for span in ODD], {})
    return folder


def test_without_a_shift_parts_begin_where_frames_are_annotated_and_not_where_they_are_cut(tmp_path):
    kept = kept_oddly(write(tmp_path / "toy", [14]), tmp_path / "kept")
    drawn = draw(40, Share(kept), every=3, shift=False, buffer=4)
    assert {frame.frame for frame in drawn} == {3, 6, 9}
    stream = Stream([Share(kept)], HORIZON, 0, every=3, shift=False)
    assert sorted(frame.frame for frame in stream.once()) == [3, 6, 9]
    assert {frame.frame for frame in draw(60, Share(kept), every=3, buffer=4)} > {3, 6, 9}


def test_what_is_kept_without_any_annotated_frame_is_refused(tmp_path):
    dataset = Dataset(write(tmp_path / "toy", [14]))
    write_keep(tmp_path / "kept", dataset, [Part(dataset.episodes[0], 7, 9)], {})
    Stream([Share(tmp_path / "kept")], HORIZON, 0, every=3)
    with pytest.raises(DatasetError, match="toy: no part that is kept has a frame .* a multiple of 3"):
        Stream([Share(tmp_path / "kept")], HORIZON, 0, every=3, shift=False)


def test_alternatives_of_a_set_that_is_written_anew_are_of_every_so_many_frames_as_before(tmp_path):
    root = write(tmp_path / "toy", [14])
    shutil.rmtree(root / "annotations" / ALTERNATIVES)
    companion = CompanionWriter(root, ALTERNATIVES)
    chunk = np.arange(2 * HORIZON, dtype=np.float32)
    for frame in range(0, 14, 3):
        row = {"episode_index": 0, "frame_index": frame, "instruction": "else", "chunk": chunk}
        companion.add([row])
    companion.close()
    assert rewrite(*open_kept(kept_oddly(root, tmp_path / "kept")), tmp_path / "new") == (2, 7)
    for place in ("kept", "new"):
        drawn = list(Stream([Share(tmp_path / place)], HORIZON, 0, every=3, shift=False).once())
        assert [len(frame.alternatives) for frame in drawn] == [1, 1, 1], place


def test_a_corrected_set_that_is_written_anew_is_corrected_at_the_frames_that_its_note_says(tmp_path):
    root = write(tmp_path / "toy", [14])
    (root / NOTES).write_text(json.dumps({CORRECTED: 3}))
    edit_column(root / "annotations" / POINTS / "chunk-000/file-000.parquet", "frame_index", lambda _: [9])
    assert rewrite(*open_kept(kept_oddly(root, tmp_path / "kept")), tmp_path / "new") == (2, 7)
    new = Dataset(tmp_path / "new")
    assert [new.vectors(episode).state[0, 1] for episode in new.episodes] == [3, 9]
    stream = Stream([Share(tmp_path / "new")], HORIZON, 0, every=3, shift=False)
    assert {(frame.episode, frame.frame) for frame in stream.once() if frame.points} == {(1, 0)}


def test_the_order_is_the_seeds_and_a_continued_stream_goes_on_where_it_was(data, tmp_path):
    other = write(tmp_path / "other", [8, 8], base=10)
    shares = Share(data), Share(other, 2.0)
    whole = [key(frame) for frame in draw(50, *shares, every=2, buffer=15)]
    assert whole == [key(frame) for frame in draw(50, *shares, every=2, buffer=15)]
    for skip in (1, 17, 40):
        assert whole[skip:] == [key(frame) for frame in draw(50 - skip, *shares, every=2, buffer=15, skip=skip)]


def test_passing_over_decodes_no_image(data, monkeypatch):
    decoded = []
    pictures = Dataset.pictures
    monkeypatch.setattr(Dataset, "pictures", lambda self, *a: decoded.append(a[0].index) or pictures(self, *a))
    draw(1, Share(data), every=1, buffer=5, skip=2000)
    assert 1 <= len(decoded) <= 4, "more than the buffer's episodes"


def test_weights_say_how_often_a_data_set_is_drawn_from(data, tmp_path):
    other = write(tmp_path / "other", [9, 9, 10], base=10)
    drawn = draw(400, Share(data), Share(other, 3.0), every=1, buffer=10)
    share = np.mean([frame.dataset == str(other) for frame in drawn])
    assert 0.6 < share < 0.88


def test_weights_are_shares_of_frames_however_long_episodes_are(tmp_path):
    long, short = write(tmp_path / "long", [60, 50, 55]), write(tmp_path / "short", [4, 6, 5], base=10)
    drawn = draw(3000, Share(long, 0.5), Share(short, 0.5), every=1, buffer=200)
    assert 0.4 < np.mean([frame.dataset == str(short) for frame in drawn]) < 0.6


def test_data_sets_of_different_rates_are_not_mixed(data, tmp_path):
    other = write(tmp_path / "other", [9])
    edit_info(other, fps=15)
    with pytest.raises(DatasetError, match="other has 15 frames a second and .* 10; what is learnt together"):
        Stream([Share(data), Share(other)], HORIZON, 0)


def test_only_the_episodes_that_are_named_are_used(data):
    assert {frame.episode for frame in draw(40, Share(data, episodes=range(1, 3)), every=1, buffer=20)} == {1, 2}
    with pytest.raises(DatasetError, match="has no episode in"):
        Stream([Share(data, episodes=range(7, 9))], HORIZON, 0)
    with pytest.raises(DatasetError, match=r"has no episode 9998; \[0, 9999\] was asked"):
        Stream([Share(data, episodes=range(9999))], HORIZON, 0)


def test_depth_images_come_back_as_they_were(data):
    dataset = Dataset(data)
    assert dataset.depth_cameras == ["front"]
    for episode in dataset.episodes:
        values = [int(image[2, 3]) for image in dataset.depth(episode, "front")]
        assert values == [100 * episode.index + frame for frame in range(episode.length)]


def test_a_number_that_is_none_is_refused_by_its_episode(tmp_path):
    bad = write(tmp_path / "bad", [4, 6], action=lambda episode, frame: np.nan if (episode, frame) == (1, 3) else 0.0)
    with pytest.raises(DatasetError, match="bad: episode 1 has a state that is not finite"):
        draw(20, Share(bad), every=1, buffer=3)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_mixture_without_weight_is_refused(data, weight):
    with pytest.raises(DatasetError, match="weights above 0"):
        Stream([Share(data, weight)], HORIZON, 0)


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(DatasetError, match="32 x 16"), DatasetWriter(
        tmp_path / "half", 10, ["a"], {"front": (32, 48)}, "toy", {}
    ) as writer:
        writer.begin("task", 1, {})
        writer.add(Row(np.zeros(1), np.zeros(1), {"front": np.zeros((16, 32, 3), np.uint8)}))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing_either(tmp_path, monkeypatch):
    """To close a file fails as the write before did."""
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RolledTable, "close", full)
    with pytest.raises(OSError, match="No space left"), DatasetWriter(
        tmp_path / "half", 10, ["a"], {"front": (32, 48)}, "toy", {}
    ) as writer:
        writer.begin("task", 1, {})
        writer.add(Row(np.zeros(1), np.zeros(1), {"front": np.zeros((32, 48, 3), np.uint8)}))
        writer.end()
    assert list(tmp_path.iterdir()) == []


# --- before anything is drawn -----------------------------------------------------------------------------------------
def test_what_is_wrong_is_named_before_anything_is_drawn(data, tmp_path):
    Stream([Share(data)], HORIZON, 0).check()
    bad = write_older(tmp_path / "bad", [moving(9), moving(9), moving(9)])
    (bad / "videos/chunk-000/observation.images.front/episode_000001.mp4").unlink()
    edit_column(bad / "data/chunk-000/episode_000002.parquet", "action", lambda rows: [[float("nan")] * 2, *rows[1:]])
    with pytest.raises(DatasetError) as error:
        Stream([Share(data), Share(bad)], HORIZON, 0).check()
    assert "episode_000001.mp4 is missing" in str(error.value)
    assert "episode 2: action is not finite in frame 0" in str(error.value)
    assert "molmoact2 data filter" in str(error.value)


COLUMNS = [
    (POINTS, "across", float("nan"), 2, "across is nan, expected a share of the image, from 0 to 1"),
    (POINTS, "across", -0.01, 2, "across is -0.0"),
    (POINTS, "down", 320.0, 2, "down is 320.0, expected a share"),
    (POINTS, "down", None, 2, "down is missing"),
    (POINTS, "phrase", None, 2, "phrase is missing"),
    (ALTERNATIVES, "chunk", None, 1, "chunk is missing"),
    (ALTERNATIVES, "chunk", [0.0] * 9 + [float("inf")], 1, "chunk holds a number that is none"),
    (ALTERNATIVES, "chunk", [0.0] * 9 + [None], 1, "chunk holds a number that is none"),
]


@pytest.mark.parametrize(("name", "column", "value", "frame", "said"), COLUMNS)
def test_what_is_said_of_a_frame_and_cannot_be_is_named_before_anything_is_drawn_and_when_it_is(
    tmp_path, name, column, value, frame, said
):
    bad = write(tmp_path / "bad", [5, 5])
    path = bad / "annotations" / name / "chunk-000/file-000.parquet"
    kind = pyarrow.list_(pyarrow.float32()) if column == "chunk" else None
    edit_column(path, column, lambda rows: pyarrow.array([rows[0], value], kind))
    words = f"bad: frame {frame} of episode 1: {name}: {re.escape(said)}"
    with pytest.raises(DatasetError, match=words):
        Stream([Share(bad)], HORIZON, 0).check()
    with pytest.raises(DatasetError, match=words):
        list(Stream([Share(bad)], HORIZON, 0, every=1).once())
    result = judge(Dataset(bad), [])
    assert [(found.rule, found.episode) for found in result.findings] == [("unreadable", 1)]


def test_the_edges_of_an_image_are_in_it(tmp_path):
    data = write(tmp_path / "toy", [5, 5])
    for column in ("across", "down"):
        edit_column(data / "annotations" / POINTS / "chunk-000/file-000.parquet", column, lambda _: [0.0, 1.0])
    stream = Stream([Share(data)], HORIZON, 0, every=1)
    stream.check()
    assert {place for frame in stream.once() for place in frame.points.values()} == {(0.0, 0.0), (1.0, 1.0)}


def test_what_waits_to_be_drawn_is_a_full_buffer_and_the_longest_part(data):
    image = 32 * 48 * 3
    assert Stream([Share(data)], HORIZON, 0, every=1, buffer=20).held == (19 + 12) * image
    assert Stream([Share(data)], HORIZON, 0, every=3, shift=False, buffer=20).held == (19 + 4) * image


# --- every frame once -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("buffer", [1, 10, 1000])
def test_one_passage_gives_every_frame_once_and_ends(data, buffer):
    stream = Stream([Share(data)], HORIZON, 3, every=1, buffer=buffer)
    whole = [key(frame) for frame in stream.once()]
    assert len(whole) == len(set(whole)) == 28
    assert whole == [key(frame) for frame in stream.once()]
    rest = Stream([Share(data)], HORIZON, 3, every=1, buffer=buffer, skip=11).once()
    assert [key(frame) for frame in rest] == whole[11:]


def test_a_passage_over_one_in_so_many(data):
    drawn = [key(frame) for frame in Stream([Share(data)], HORIZON, 3, every=4).once()]
    assert sorted((episode, frame) for _, episode, frame in drawn) == [
        (episode, frame) for episode, length in enumerate([7, 12, 9]) for frame in range(0, length, 4)
    ]


def test_of_corrected_attempts_only_the_corrections_are_learnt(tmp_path):
    root = write(tmp_path / "toy", [7])
    edit_column(root / "annotations" / ALTERNATIVES / "chunk-000/file-000.parquet", "instruction", lambda _: ["task 0"])
    (root / NOTES).write_text(json.dumps({CORRECTED: 3}))
    for frame in Stream([Share(root)], HORIZON, 0, every=1).once():
        assert frame.valid.tolist() == [frame.frame == 1] * HORIZON
        assert frame.alternatives == {}
        if frame.frame == 1:
            assert frame.chunk.ravel().tolist() == list(range(2 * HORIZON))


def test_what_is_known_of_another_camera_is_not_taken_for_the_main_ones(data):
    def named(camera: str | None) -> set[str]:
        frames = Stream([Share(data, camera=camera)], HORIZON, 0, every=1).once()
        return {phrase for frame in frames for phrase in frame.points}

    assert (named("front"), named(None), named("wrist")) == ({"x"}, {"x"}, set())
    frames = Stream([Share(data, camera="wrist")], HORIZON, 0, every=1).once()
    assert any(frame.alternatives for frame in frames), "a chunk is of no camera"


@pytest.mark.parametrize("horizon", [HORIZON - 1, HORIZON + 1, 2 * HORIZON, 1])
def test_alternatives_of_another_horizon_are_refused(data, horizon):
    said = f"frame 1 of episode . has an alternative of {2 * HORIZON} numbers; .* {horizon} waypoints of 2"
    with pytest.raises(DatasetError, match=said):
        list(Stream([Share(data)], horizon, 0, every=1).once())


# --- units and memory -------------------------------------------------------------------------------------------------
def test_a_frame_of_units_turns_states_actions_and_alternatives(data):
    frame = Frame(np.array([1, 0]), np.array([2.0, -1.0]), np.array([10.0, 0.0]))
    plain = {key(one): one for one in Stream([Share(data)], HORIZON, 0, every=1).once()}
    for turned in Stream([Share(data, frame=frame)], HORIZON, 0, every=1).once():
        one = plain[key(turned)]
        assert turned.state.tolist() == [2 * one.state[1] + 10, -one.state[0]]
        assert np.array_equal(turned.chunk, np.stack([2 * one.chunk[:, 1] + 10, -one.chunk[:, 0]], axis=1))
        assert turned.chunk.dtype == turned.state.dtype == np.float32
        for words, chunk in turned.alternatives.items():
            assert np.array_equal(chunk[:, 1], -one.alternatives[words][:, 0])


def test_memory_does_not_grow_with_the_data(tmp_path):
    """Frames that live are those of the buffer and of an episode that is put there; all else is bounded too."""
    peaks = {}
    for episodes in (4, 24):
        root = write(tmp_path / str(episodes), [40] * episodes)
        stream = iter(Stream([Share(root)], HORIZON, 0, every=2, buffer=30))
        next(stream)    # what is loaded once
        tracemalloc.start()
        for count in range(20 * episodes):
            next(stream)
            if count % 50 == 0:
                alive = [one for one in gc.get_objects() if type(one) is TrainingFrame and one.dataset == str(root)]
                assert 25 <= len(alive) <= 30 + 20
                del alive
        peaks[episodes] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[24] < peaks[4] + 100_000, peaks
