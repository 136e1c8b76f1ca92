# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of others, and bags that lack something: what can be read is, and what cannot is said."""

import sqlite3
from contextlib import closing

import pytest
from bag_writing import WORD, begin, word
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat
from rosbags.typesys import Stores, get_typestore

from molmoact2_policy.bags.bag import Bag, BagError
from molmoact2_policy.bags.repair import repair

STORE = get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture
def changed(tmp_path):
    """Writes a bag of two words in sqlite3, changes it by SQL, and opens it."""

    def make(*statements: str) -> Bag:
        writer = begin(tmp_path / "bag", "sqlite3")
        for number in range(2):
            writer.write("/words", (number + 1) * 10**9, word(number))
        writer.close()
        with closing(sqlite3.connect(tmp_path / "bag/bag_0.db3")) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()
        return Bag(tmp_path / "bag")

    return make


def test_a_bag_without_definitions_is_read_by_the_installed_ones_and_says_so(changed):
    with changed("DELETE FROM message_definitions") as bag:
        assert [int(m.data) for _, _, m, _ in bag.messages()] == [0, 1]
        assert bag.problems == [f"there is no definition of {WORD} in the bag; the installed one is used"]


def test_messages_of_an_unknown_type_are_left_out_and_said(changed):
    statements = "DELETE FROM message_definitions", "UPDATE topics SET type = 'far_msgs/msg/Away' WHERE name = '/words'"
    with changed(*statements) as bag:
        assert list(bag.messages()) == []
        assert any("far_msgs/msg/Away" in p and "left out: 2 messages of /words" in p for p in bag.problems)


def test_a_definition_that_does_not_fit_its_hash_is_not_used(changed):
    with changed("UPDATE message_definitions SET encoded_message_definition = 'int32 data'") as bag:
        assert list(bag.messages()) == []
        assert any("does not have the hash" in p and "2 messages of /words" in p for p in bag.problems)


def test_a_definition_that_is_none_is_named(changed):
    with changed("UPDATE message_definitions SET encoded_message_definition = '%%%'") as bag:
        assert list(bag.messages()) == []
        assert any(WORD in p and "left out: 2 messages of /words" in p for p in bag.problems)


def test_a_damaged_message_is_named(changed):
    bag = changed("UPDATE messages SET data = x'00010000ff' WHERE id = 2")
    with bag, pytest.raises(BagError, match="a message of /words cannot be read"):
        list(bag.messages())


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_of_another_writer_is_read_without_problems(tmp_path, plugin):
    with Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/words", WORD, typestore=STORE)
        for number in range(3):
            writer.write(connection, number + 1, word(number, 5))
    with Bag(tmp_path / "bag") as bag:
        assert [int(m.data) for _, _, m, _ in bag.messages()] == [0, 1, 2]
        assert bag.problems == [] and bag.dropped is None and bag.facts == {} and not bag.lossy
    assert repair(tmp_path / "bag") == []


def test_a_compressed_mcap_of_another_writer_that_was_cut_is_read_up_to_there(tmp_path):
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/words", WORD, typestore=STORE)
        for number in range(300):
            writer.write(connection, number + 1, word(number, 10_000))
    file = tmp_path / "bag/bag.mcap"
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])    # its end
    with Bag(tmp_path / "bag") as bag:
        assert [int(m.data) for _, _, m, _ in bag.messages()] == list(range(300))
        assert any("bag.mcap has no sound end" in problem for problem in bag.problems)
    assert repair(tmp_path / "bag")
    with Bag(tmp_path / "bag") as bag:
        assert len(list(bag.messages())) == 300 and bag.problems == []


def test_a_bag_that_rosbag2_packed_as_a_whole_is_refused_with_the_mend(tmp_path):
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        writer.add_connection("/words", WORD, typestore=STORE)
    with pytest.raises(BagError, match="ros2 bag convert"), Bag(tmp_path / "bag"):
        pass
