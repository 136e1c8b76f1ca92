# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Bags that are written to their end, and bags that are not."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import bag_writing
import pytest
import yaml
from bag_writing import PER_COMMIT, WORD, begin, word
from rosbags.highlevel import AnyReader

from molmoact2_policy.bags.bag import Bag, BagError, storage_files
from molmoact2_policy.bags.definitions import definitions_of
from molmoact2_policy.bags.keeper import Keeper
from molmoact2_policy.bags.mcap_file import SUMMARY_SIZE, McapFile
from molmoact2_policy.bags.repair import repair
from molmoact2_policy.bags.writer import BALLAST, STORAGES, UNLIMITED, BagWriter, Limits

storages = pytest.mark.parametrize("storage", STORAGES)
PATIENCE = 30.0    # seconds; only a failing test waits that long


def numbers(path: Path) -> list[int]:
    with Bag(path) as bag:
        return [int(message.data) for _, _, message, _ in bag.messages()]


def strictly(path: Path) -> list[int]:
    """By rosbags' own reader, which takes nothing but whole bags, and compares the hashes of the types."""
    with AnyReader([path]) as reader:
        return [int(reader.deserialize(raw, c.msgtype).data) for c, _, raw in reader.messages()]


def information(path: Path) -> dict:
    return yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


def write_some(path: Path, storage: str, count: int, limits: Limits = UNLIMITED, **more) -> None:
    writer = begin(path, storage, limits, **more)
    for number in range(count):
        writer.write("/words", (number + 1) * 10**9, word(number))
    writer.close()


@storages
def test_a_bag_is_split_by_size_into_files_of_which_each_stands_alone(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 25, Limits(bytes=100_000), facts={"molmoact2_note": "kept"})
    files = storage_files(tmp_path / "bag")
    assert [f.name for f in files] == [f"bag_{k}{files[0].suffix}" for k in range(len(files))] and len(files) > 2
    assert strictly(tmp_path / "bag") == numbers(tmp_path / "bag") == list(range(25))
    said = information(tmp_path / "bag")
    assert said["relative_file_paths"] == [f.name for f in files] and said["message_count"] == 25
    assert said["starting_time"]["nanoseconds_since_epoch"] == 10**9 and said["duration"]["nanoseconds"] == 24 * 10**9
    for file, entry in zip(files, said["files"], strict=True):
        assert len(strictly(file)) == entry["message_count"] > 0
        with Bag(file) as bag:
            assert bag.facts["note"] == "kept" and bag.counts["/silence"] == 0


@storages
def test_a_bag_is_split_by_time(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 10, Limits(seconds=4.0))
    assert [strictly(f) for f in storage_files(tmp_path / "bag")] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@storages
def test_a_whole_bag_has_no_problems_and_nothing_to_repair(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 5)
    assert sorted(f.name for f in (tmp_path / "bag").iterdir()) == sorted(
        ["metadata.yaml", f"bag_0{storage_files(tmp_path / 'bag')[0].suffix}"]
    )
    with Bag(tmp_path / "bag") as bag:
        assert bag.problems == [] and bag.span_ns == (10**9, 5 * 10**9)
    assert repair(tmp_path / "bag") == []


@storages
def test_messages_that_come_out_of_order_are_read_in_the_order_of_their_times(tmp_path, storage):
    writer = begin(tmp_path / "bag", storage, Limits(bytes=30_000))
    for number in (1, 0, 3, 2, 6, 5, 4, 7):
        writer.write("/words", (number + 1) * 10**9, word(number))
    writer.close()
    assert len(storage_files(tmp_path / "bag")) > 1
    assert numbers(tmp_path / "bag") == list(range(8))


@storages
def test_a_bag_without_messages_is_read(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 0)
    assert strictly(tmp_path / "bag") == []
    with Bag(tmp_path / "bag") as bag:
        assert bag.counts == {"/words": 0, "/silence": 0} and bag.span_ns is None and bag.problems == []


@storages
def test_each_commit_can_be_read_while_the_bag_is_written(tmp_path, storage):
    writer = begin(tmp_path / "bag", storage)
    for number in range(3):
        writer.write("/words", (number + 1) * 10**9, word(number, 3_000_000))    # beyond the file's first room
        writer.commit()
        assert strictly(tmp_path / "bag") == list(range(number + 1))
    writer.abandon()
    assert strictly(tmp_path / "bag") == [0, 1, 2]


def test_an_mcap_file_grows_with_its_summary_and_can_be_read_all_along(tmp_path):
    file = McapFile(tmp_path / "many.mcap")
    topics = [f"/words_{k}" for k in range(40)]
    for topic in topics:
        file.add_topic(topic, definitions_of([WORD])[WORD], "")
    for number in range(600):    # a chunk each: the summary outgrows its first place
        for topic in topics:
            file.write(topic, number + 1, word(number, 50))
        file.commit()
        if number % 60 == 0:
            assert strictly(tmp_path / "many.mcap")[::40] == list(range(number + 1))
    assert file._summary_size > SUMMARY_SIZE
    file.abandon()    # as a kill would
    assert strictly(tmp_path / "many.mcap")[::40] == list(range(600))
    with Bag(tmp_path / "many.mcap") as bag:
        assert bag.counts == dict.fromkeys(topics, 600)


# --- killed and full --------------------------------------------------------------------------------------------------
def started(path: Path, storage: str, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, bag_writing.__file__, str(path), storage, *more], stdout=subprocess.PIPE, text=True
    )


def committed_until_killed(path: Path, storage: str, commits: int) -> int:
    """Messages of which a writer said that they are committed, killed right after some of them."""
    process = started(path, storage)
    for _ in range(commits):
        process.stdout.readline()
    process.kill()
    said = process.stdout.read().split()
    process.wait()
    return int(said[-1]) if said else commits * PER_COMMIT


@pytest.mark.parametrize("commits", [1, 7, 40, 73])
@storages
def test_after_kill_9_all_that_was_committed_is_read_and_said_to_be_perhaps_not_all(tmp_path, storage, commits):
    committed = committed_until_killed(tmp_path / "bag", storage, commits)
    if storage == "mcap":    # at once, by a reader that takes whole bags only
        assert strictly(tmp_path / "bag") in (list(range(committed)), list(range(committed + PER_COMMIT)))
    found = numbers(tmp_path / "bag")
    assert found == list(range(len(found))) and len(found) >= committed
    with Bag(tmp_path / "bag") as bag:
        assert any("may be missing" in problem for problem in bag.problems)
    assert repair(tmp_path / "bag")
    assert strictly(tmp_path / "bag") == found and information(tmp_path / "bag")["message_count"] == len(found)
    assert repair(tmp_path / "bag") == []


@storages
def test_a_full_disk_leaves_what_was_committed(tmp_path, storage):
    process = started(tmp_path / "bag", storage, str(4_000_000))
    *said, last = process.communicate()[0].splitlines()
    assert last.startswith("full: ") and process.returncode == 0
    if storage == "mcap":
        assert len(strictly(tmp_path / "bag")) >= int(said[-1] if said else 0)
    repair(tmp_path / "bag")
    found = strictly(tmp_path / "bag")
    assert found == list(range(len(found))) and len(found) >= int(said[-1] if said else 0)


@storages
def test_the_keeper_completes_a_bag_whose_recorder_is_gone(tmp_path, storage):
    committed_until_killed(tmp_path / "bag", storage, 5)
    found = numbers(tmp_path / "bag")
    keeper = Keeper(tmp_path / "bag")
    keeper._process.stdin.close()    # as the kernel does for a recorder that was killed
    assert keeper._process.wait(PATIENCE) == 0
    assert strictly(tmp_path / "bag") == found and information(tmp_path / "bag")["message_count"] == len(found)
    assert repair(tmp_path / "bag") == []


@storages
def test_space_is_kept_for_completing_and_given_back(tmp_path, storage):
    writer = begin(tmp_path / "bag", storage)
    taken = [f for f in (tmp_path / "bag").iterdir() if f.stat().st_blocks * 512 >= BALLAST]
    assert len(taken) == 1
    writer.close()
    assert not taken[0].exists()


# --- bad input --------------------------------------------------------------------------------------------------------
def test_an_existing_folder_and_an_unknown_storage_are_refused(tmp_path):
    with pytest.raises(BagError, match="exists already; remove it or choose another"):
        BagWriter(tmp_path)
    with pytest.raises(BagError, match="storage 'paper' is not known; there are: mcap, sqlite3"):
        BagWriter(tmp_path / "bag", "paper")
    (tmp_path / "file").write_text("")
    with pytest.raises(BagError, match="cannot be created"):
        BagWriter(tmp_path / "file" / "bag")
    assert sorted(os.listdir(tmp_path)) == ["file"]


@storages
def test_a_disk_that_is_full_at_the_begin_is_refused_and_nothing_is_left(tmp_path, storage):
    said = f"""if True:
        import resource, pathlib
        from molmoact2_policy.bags.writer import BagError, BagWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            BagWriter(pathlib.Path({str(tmp_path / "bag")!r}), {storage!r})
        except BagError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True)
    assert "cannot be created" in done.stdout and "has space" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@storages
def test_cutting_a_file_anywhere_gives_what_is_before_or_an_error_that_names_it(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 600)
    (file,) = storage_files(tmp_path / "bag")
    whole = file.read_bytes()
    for share in (0.0, 0.0001, 0.01, 0.3, 0.8, 0.99):
        file.write_bytes(whole[: int(share * len(whole))])
        try:
            with Bag(tmp_path / "bag") as bag:
                found = [int(message.data) for _, _, message, _ in bag.messages()]
                assert bag.problems and file.name in " ".join(bag.problems)
            assert found == list(range(len(found))) and len(found) < 600
        except BagError as error:
            assert file.name in str(error)
    if storage == "mcap":
        file.write_bytes(whole[: int(0.8 * len(whole))])
        assert len(numbers(tmp_path / "bag")) > 300, "whole chunks before the cut are read"


def test_a_damaged_chunk_is_named_and_left_out_by_a_repair(tmp_path):
    write_some(tmp_path / "bag", "mcap", 1500)
    (file,) = storage_files(tmp_path / "bag")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(BagError, match="bag_0.mcap: .*checksum.*repair"):
        numbers(tmp_path / "bag")
    assert any("damaged and left out" in line for line in repair(tmp_path / "bag"))
    found = strictly(tmp_path / "bag")
    assert found == sorted(found) and 0 < len(found) < 1500
    assert repair(tmp_path / "bag") == []
    with Bag(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == len(found)
        assert any("repaired before" in p and "damaged and left out" in p for p in bag.problems), "for good"


@storages
def test_damage_anywhere_is_said_and_never_a_surprise(tmp_path, storage):
    write_some(tmp_path / "whole", storage, 60, Limits(bytes=200_000))
    chance = random.Random(5)
    for number in range(60):
        path = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", path)
        file = chance.choice(sorted(path.iterdir()))
        data = bytearray(file.read_bytes())
        for _ in range(chance.choice((1, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        file.write_bytes(data)
        for step in (numbers_or_problems, repair, numbers_or_problems):
            with contextlib.suppress(BagError):
                step(path)


def numbers_or_problems(path: Path) -> None:
    with Bag(path) as bag:
        found = list(bag.messages())
        assert len(found) == 60 or bag.problems


@storages
def test_a_missing_metadata_yaml_and_a_missing_file_are_problems_and_the_rest_is_read(tmp_path, storage):
    write_some(tmp_path / "bag", storage, 10, Limits(seconds=4.0))
    (tmp_path / "bag/metadata.yaml").rename(tmp_path / "kept.yaml")
    with Bag(tmp_path / "bag") as bag:
        assert [int(m.data) for _, _, m, _ in bag.messages()] == list(range(10))
        assert any("metadata.yaml" in problem for problem in bag.problems)
    (tmp_path / "kept.yaml").rename(tmp_path / "bag/metadata.yaml")
    storage_files(tmp_path / "bag")[1].unlink()
    with Bag(tmp_path / "bag") as bag:
        assert [int(m.data) for _, _, m, _ in bag.messages()] == [0, 1, 2, 3, 8, 9]
        assert any("bag_1" in problem and "is missing" in problem for problem in bag.problems)


def test_a_folder_that_is_no_bag_is_named(tmp_path):
    for path, text in ((tmp_path, "neither metadata.yaml nor"), (tmp_path / "x", "does not exist")):
        with pytest.raises(BagError, match=text), Bag(path):
            pass
    (tmp_path / "notes.txt").write_text("no bag")
    with pytest.raises(BagError, match="ends with none of"), Bag(tmp_path / "notes.txt"):
        pass
    with pytest.raises(BagError, match="there is nothing to repair"):
        repair(tmp_path)
