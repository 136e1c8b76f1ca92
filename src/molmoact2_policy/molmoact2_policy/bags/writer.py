# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a rosbag2 bag: one folder, files of one storage one after the other, metadata.yaml."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .definitions import Definition
from .errors import BagError
from .mcap_file import McapFile
from .metadata import FileFacts, Topic, metadata_text, put
from .sqlite_file import SqliteFile

PERIOD = 1.0          # between commits [s]: what a kill loses at most, and what is being written just then
COMPLETE = "molmoact2_complete"    # of what is kept besides messages: YES, NO or, after a repair, AFTERWARDS
MISSING = "molmoact2_missing"      # what a repair could not save, in words
YES, NO, AFTERWARDS = "yes", "no", "after its recorder was killed"
BALLAST = 4 * 2**20   # freed when the disk is full, so that the bag can be completed
BALLAST_NAME = ".molmoact2_reserve"


class File(Protocol):
    """A file of a storage: McapFile, SqliteFile."""

    path: Path
    counts: dict[str, int]
    start_ns: int
    end_ns: int

    @property
    def size(self) -> int: ...
    def add_topic(self, topic: str, definition: Definition, qos: str) -> None: ...
    def write(self, topic: str, time_ns: int, data: bytes) -> None: ...
    def put_facts(self, facts: Mapping[str, str]) -> None: ...
    def commit(self) -> None: ...
    def close(self, metadata: str) -> None: ...
    def abandon(self) -> None: ...


STORAGES: dict[str, Callable[[Path], File]] = {"mcap": McapFile, "sqlite3": SqliteFile}
SUFFIXES = {"mcap": McapFile.suffix, "sqlite3": SqliteFile.suffix}


@dataclass(frozen=True)
class Limits:
    """When a file ends and the next begins: beyond so many bytes, or so many seconds of messages. 0: never."""

    bytes: int = 0
    seconds: float = 0.0


UNLIMITED = Limits()


class BagWriter:
    """A bag under writing; what was committed can be read whatever happens. Use it from one thread at a time.

    path: the bag's folder, which must not exist. facts: what is kept besides messages, by name.
    Errors: BagError where it cannot begin. Later OSError, and the writer can still be closed.
    """

    def __init__(
        self, path: Path, storage: str = "mcap", limits: Limits = UNLIMITED, facts: Mapping[str, str] | None = None
    ):
        if storage not in STORAGES:
            raise BagError(f"storage {storage!r} is not known; there are: {', '.join(STORAGES)}")
        self.path, self.storage, self._limits = Path(path), storage, limits
        self.facts = {COMPLETE: NO, **(facts or {})}
        self._topics: dict[str, Topic] = {}
        self._files: list[FileFacts] = []    # complete ones
        self._committed_at, self._changed = time.monotonic(), False
        if self.path.exists() or self.path.is_symlink():
            raise BagError(f"bag {self.path} exists already; remove it or choose another path")
        try:
            self.path.mkdir(parents=True)
            reserve(self.path / BALLAST_NAME)
            self._file = self._next(0)
            self._put_metadata()
        except OSError as error:
            self._undo()
            raise BagError(
                f"bag {self.path} cannot be created: {error}; choose a path that may be written and has space"
            ) from error

    @property
    def counts(self) -> dict[str, int]:
        """Messages written, by topic."""
        files = [*self._files, self._facts_of(self._file)]
        return {topic: sum(f.counts.get(topic, 0) for f in files) for topic in self._topics}

    @property
    def size(self) -> int:
        """Bytes of the file that is being written."""
        return self._file.size

    @property
    def files(self) -> int:
        return len(self._files) + 1

    def add_topic(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        self._file.add_topic(topic.name, topic.definition, topic.qos_text())
        self._changed = True

    def put_facts(self, facts: Mapping[str, str]) -> None:
        """Adds to what is kept besides messages, or changes it."""
        new = {key: value for key, value in facts.items() if self.facts.get(key) != value}
        if new:
            self._file.put_facts(new)
            self.facts.update(new)
            self._changed = True

    def write(self, topic: str, receive_ns: int, data: bytes) -> None:
        """A serialized message (CDR). Errors: OSError; KeyError for a topic that was not added."""
        if self._over(receive_ns):
            self._split()
        self._file.write(topic, receive_ns, data)
        self._changed = True

    def commit_when_due(self) -> None:
        """Commits what was written when PERIOD is over; to be called at least so often. Errors: OSError."""
        if time.monotonic() - self._committed_at >= PERIOD:
            self.commit()

    def commit(self) -> None:
        if self._changed:
            self._file.commit()
            self._put_metadata()
            self._changed = False
        self._committed_at = time.monotonic()

    def close(self) -> None:
        """Completes the bag. Errors: OSError; what was written is then kept as far as there was space."""
        self.release_reserve()
        self.facts[COMPLETE] = YES
        try:
            self._file.put_facts({COMPLETE: YES})
            self._file.close(self._text([*self._files, self._facts_of(self._file)], inner=True))
        except OSError:
            self.facts[COMPLETE] = NO
            self._file.abandon()
            raise
        finally:
            self._put_metadata()

    def abandon(self) -> None:
        """Leaves the bag as it was last committed, as a kill does."""
        self.release_reserve()
        self._file.abandon()

    def release_reserve(self) -> None:
        """Frees the space that was kept for completing the bag."""
        (self.path / BALLAST_NAME).unlink(missing_ok=True)

    # --- files --------------------------------------------------------------------------------------------------------
    def _over(self, receive_ns: int) -> bool:
        f, limits = self._file, self._limits
        if not f.end_ns:
            return False    # it holds nothing yet
        by_size = bool(limits.bytes) and f.size >= limits.bytes
        return by_size or bool(limits.seconds) and receive_ns - f.start_ns >= limits.seconds * 1e9

    def _split(self) -> None:
        done, following = self._facts_of(self._file), self._next(len(self._files) + 1)
        try:
            following.commit()
            self._file.close(self._text([done], inner=True))
        except OSError:    # the old one stays the last
            following.abandon()
            following.path.unlink()
            raise
        self._files.append(done)
        self._file = following
        self._put_metadata()

    def _next(self, number: int) -> File:
        name = f"{self.path.name}_{number}{SUFFIXES[self.storage]}"
        file = STORAGES[self.storage](self.path / name)
        file.put_facts(self.facts)
        for topic in self._topics.values():
            file.add_topic(topic.name, topic.definition, topic.qos_text())
        return file

    def _put_metadata(self) -> None:
        put(self.path, self._text([*self._files, self._facts_of(self._file)]))

    def _text(self, files: list[FileFacts], inner: bool = False) -> str:
        return metadata_text(self.storage, list(self._topics.values()), files, self.facts, inner)

    def _facts_of(self, file: File) -> FileFacts:
        return FileFacts(file.path.name, dict(file.counts), file.start_ns, file.end_ns)

    def _undo(self) -> None:
        """Removes what was begun."""
        with contextlib.suppress(OSError):
            for child in self.path.iterdir():
                child.unlink()
            self.path.rmdir()


def reserve(path: Path) -> None:
    """Takes space on the disk that can be given back later. Errors: OSError where there is none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, BALLAST)
    finally:
        os.close(descriptor)
