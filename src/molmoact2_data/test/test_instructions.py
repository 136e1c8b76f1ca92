# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Each frame has its own instruction, also where an episode has several, or states none."""

from pathlib import Path

import pytest
from hand_made import moving, with_tasks, write_older, write_set
from pyarrow import parquet

from molmoact2_data.checking import check
from molmoact2_data.filter_report import chosen_rules
from molmoact2_data.filtering import UNREADABLE, judge
from molmoact2_data.keep import KEEP, Part, open_kept, write_keep
from molmoact2_data.layout import DatasetError
from molmoact2_data.reader import Dataset
from molmoact2_data.rewrite import rewrite
from molmoact2_data.streaming import Share, Stream

WORDS = ("open it", "close it", "wait")
NUMBERS = [[0] * 5 + [1] * 4, [2] * 6]


@pytest.fixture
def several(tmp_path) -> Path:
    """The first episode opens and closes; what the second one does its frames alone say."""
    root = write_older(tmp_path / "set", [moving(len(numbers)) for numbers in NUMBERS])
    return with_tasks(root, NUMBERS, WORDS, [WORDS[:2], []])


def spans(parts: list[Part]) -> list[tuple[int, int, int, str]]:
    return [(part.episode.index, part.first, part.end, part.episode.task) for part in parts]


def test_an_episode_of_several_instructions_is_cut_where_they_change(several):
    dataset, parts = open_kept(several)
    assert spans(parts) == [(0, 0, 5, "open it"), (0, 5, 9, "close it"), (1, 0, 6, "wait")]
    assert check(dataset, parts) == []


def test_no_frame_is_learnt_under_the_words_of_another_and_no_chunk_reaches_into_them(several):
    frames = list(Stream([Share(several)], 4, 0, every=1).once())
    assert len(frames) == 15
    for frame in frames:
        assert frame.instruction == WORDS[NUMBERS[frame.episode][frame.frame]]
        left = NUMBERS[frame.episode][frame.frame :].count(NUMBERS[frame.episode][frame.frame])
        assert frame.valid.sum() == min(4, left)


def test_a_list_of_what_is_kept_is_cut_there_too(several, tmp_path):
    dataset = Dataset(several)
    write_keep(tmp_path / "kept", dataset, [Part(dataset.episodes[0], 2, 8)], {})
    assert (tmp_path / "kept" / KEEP).is_file()
    assert spans(open_kept(tmp_path / "kept")[1]) == [(0, 2, 5, "open it"), (0, 5, 8, "close it")]


def test_what_is_written_anew_has_an_episode_for_each(several, tmp_path):
    rewrite(*open_kept(several), tmp_path / "new")
    assert [(e.length, e.tasks) for e in Dataset(tmp_path / "new").episodes] == [
        (5, ("open it",)), (4, ("close it",)), (6, ("wait",)),
    ]    # fmt: skip


def test_several_instructions_without_a_column_that_says_whose_which_is_are_refused(several):
    path = several / "data/chunk-000/episode_000000.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["task_index"]), path)
    with pytest.raises(DatasetError, match="episode 0 has 2 instructions, and no column 'task_index'"):
        open_kept(several)


def test_a_number_that_no_instruction_has_is_refused(several):
    with_tasks_of_one = (several / "meta/tasks.jsonl").read_text().splitlines()[:2]
    (several / "meta/tasks.jsonl").write_text("\n".join(with_tasks_of_one) + "\n")
    with pytest.raises(DatasetError, match="episode 1: frame 0 has task_index 2, which no instruction has"):
        open_kept(several)


def test_frames_of_another_instruction_than_their_episodes_are_named_and_left_out(tmp_path):
    root = write_older(tmp_path / "set", [moving(40), moving(40, seed=1)])
    with_tasks(root, [[0] * 30 + [1] * 10, [1] * 40], WORDS, [["open it"], ["close it"]])
    said = "episode 0: frame 30 has task_index 1 ('close it'), and the episode's instruction is 'open it'"
    dataset, parts = open_kept(root)
    assert [text.endswith(said) for text in check(dataset, parts)] == [True]
    result = judge(dataset, [])
    assert [(found.rule, found.episode) for found in result.findings] == [(UNREADABLE, 0)]
    assert {part.episode.index for part in result.parts} == {1}


SILENT = [[0] * 20 + [1] * 20, [0] * 33 + [2] * 7]


@pytest.fixture
def silent(tmp_path) -> Path:
    """The first episode says nothing in its first half; the second one closes it in less than a second."""
    root = write_older(tmp_path / "set", [moving(len(numbers), seed=seed) for seed, numbers in enumerate(SILENT)])
    return with_tasks(root, SILENT, ("", "open it", "close it"), [[], []])


def test_a_stretch_without_words_is_named_and_left_out_whatever_the_rest_of_its_episode_says(silent):
    dataset, parts = open_kept(silent)
    said = [text.partition("set: ")[2] for text in check(dataset, parts)]
    without = "have no task in words"
    assert said == [f"episode 0: frames 0 to 19 {without}", f"episode 1: frames 0 to 32 {without}"]
    result = judge(dataset, chosen_rules({}))
    assert spans(result.parts) == [(0, 20, 40, "open it"), (1, 33, 40, "close it")]
    assert [(f.rule, f.episode, f.first, f.end) for f in result.findings] == [
        ("language", 0, 0, 20), ("language", 1, 0, 33),
    ]    # fmt: skip


def test_a_part_that_is_short_once_it_is_cut_by_instruction_is_left_out(silent):
    rules = chosen_rules({"short": {"seconds": 0.8}, "language": False})
    result = judge(Dataset(silent), rules)
    assert [(found.rule, found.episode, found.first, found.end) for found in result.findings] == [("short", 1, 33, 40)]
    assert [span[:3] for span in spans(result.parts)] == [(0, 0, 20), (0, 20, 40), (1, 0, 33)]


def test_an_episode_that_says_nothing_in_any_place_has_no_words(tmp_path):
    root = write_set(tmp_path / "set", [moving(9)], tasks=[""])
    dataset, parts = open_kept(root)
    assert spans(parts) == [(0, 0, 9, "")]
    assert [text.endswith("episode 0 has no task in words") for text in check(dataset, parts)] == [True]
