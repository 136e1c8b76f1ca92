# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A bag's file of the storage sqlite3, in rosbag2's layout.

SQLite's own journal makes a commit whole or undone. The journal of a writer that was killed within one must be played
back before others read the file (`recover`): rosbags and rosbag2 open it for reading only, and cannot.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from .definitions import Definition
from .errors import BagError
from .mcap_records import ENCODING

FACTS = "molmoact2_facts"    # a table beside rosbag2's own
SCHEMA = f"""
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
  serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
  encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
  data BLOB NOT NULL);
CREATE INDEX timestamp_idx ON messages (timestamp ASC);
CREATE TABLE {FACTS}(id INTEGER PRIMARY KEY, facts TEXT NOT NULL);
INSERT INTO schema(schema_version, ros_distro) VALUES (4, 'jazzy');
"""
VERSION = 9                  # of rosbag2's metadata
MEMORY = 256 * 2**20         # of pages that wait for their commit; the file is not touched before


class SqliteFile:
    """One file under writing. Errors: OSError; what was committed stays.

    size: bytes of what was written, committed or not. counts: messages by topic.
    """

    suffix = ".db3"

    def __init__(self, path: Path):
        self.path = path
        self.counts: dict[str, int] = {}
        self.start_ns, self.end_ns, self.size = 2**63 - 1, 0, 0
        self._topics: dict[str, int] = {}
        self._types: set[str] = set()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
        try:
            # The recorder's writer thread is another than the one that made it; they never use it at once.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._execute("PRAGMA journal_mode = DELETE")
            self._execute("PRAGMA synchronous = NORMAL")
            self._execute(f"PRAGMA cache_size = {-MEMORY // 1024}")
            self._database.executescript(f"BEGIN;{SCHEMA}COMMIT;")
            self._begin()
        except sqlite3.Error as error:
            raise OSError(f"{path.name}: {error}") from error

    def add_topic(self, topic: str, definition: Definition, qos: str) -> None:
        """qos: the profiles that are offered, as YAML."""
        typename, digest = definition.typename, definition.digest
        if typename not in self._types:
            self._execute(
                "INSERT INTO message_definitions (topic_type, encoding, encoded_message_definition, "
                "type_description_hash) VALUES (?, ?, ?, ?)", (typename, ENCODING, definition.text, digest),
            )
            self._types.add(typename)
        self._topics[topic] = len(self._topics) + 1
        row = self._topics[topic], topic, typename, "cdr", qos, digest
        self._execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)", row)
        self.counts[topic] = 0

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        row = self._topics[topic], time_ns, data
        self._execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", row)
        self.counts[topic] += 1
        self.size += len(data)
        self.start_ns, self.end_ns = min(self.start_ns, time_ns), max(self.end_ns, time_ns)

    def put_facts(self, facts: Mapping[str, str]) -> None:
        """Another row; what it says counts instead of what earlier ones say."""
        self._execute(f"INSERT INTO {FACTS} (facts) VALUES (?)", (json.dumps(dict(facts)),))

    def commit(self) -> None:
        """From now on a reader finds what was written."""
        self._execute("COMMIT")
        self._begin()

    def close(self, metadata: str) -> None:
        """Commits and ends the file. metadata: what stands in metadata.yaml."""
        self._execute("INSERT INTO metadata (metadata_version, metadata) VALUES (?, ?)", (VERSION, metadata))
        self._execute("COMMIT")
        self._database.close()

    def abandon(self) -> None:
        """Leaves the file as it was last committed."""
        self._database.close()    # undoes what was not

    def _begin(self) -> None:
        self._committed = dict(self.counts), self.start_ns, self.end_ns, self.size
        self._database.execute("BEGIN")

    def _execute(self, statement: str, values: tuple = ()) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as error:
            full = "no space left on the disk" if "full" in str(error) else str(error)
            if not self._database.in_transaction:    # SQLite has undone it
                counts, self.start_ns, self.end_ns, self.size = self._committed
                self.counts = {topic: counts.get(topic, 0) for topic in self.counts}
                self._database.execute("BEGIN")
            raise OSError(f"{self.path.name}: {full}") from error


def recover(path: Path) -> bool:
    """Undoes what a killed writer had begun to commit; returns whether there was such a thing.

    Errors: BagError where the file is no database, is damaged, or cannot be written.
    """
    journal = path.with_name(path.name + "-journal")
    had = journal.exists() or path.with_name(path.name + "-wal").exists()
    if not had:
        return False
    try:
        database = sqlite3.connect(path)
        try:
            database.execute("PRAGMA journal_mode = DELETE")    # a journal ahead of the file is written into it
            database.execute("SELECT count(*) FROM messages").fetchone()
        finally:
            database.close()
        journal.unlink(missing_ok=True)    # one that holds nothing
    except (sqlite3.Error, OSError) as error:
        raise BagError(
            f"{path} was left by a writer that was killed, and cannot be recovered: {error}; copy the folder to where "
            "it can be written, and try again"
        ) from error
    return True


def facts_of(path: Path) -> dict[str, str]:
    """What stands in the file besides messages. Empty where nothing does."""
    facts: dict[str, str] = {}
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
        try:
            for (row,) in database.execute(f"SELECT facts FROM {FACTS} ORDER BY id"):
                facts.update(json.loads(row))
        finally:
            database.close()
    except (sqlite3.Error, ValueError, TypeError):
        pass    # of another recorder
    return facts
