# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The files of one bag, open for reading: whole ones by rosbags, cut-off MCAP files by a scan of what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader

from . import mcap_scan, sqlite_file
from .errors import BagError
from .mcap_scan import Scan, Scanner


class Source(Protocol):
    """One file. types, counts: by topic. definitions: (format, text) by type name, where it has one; digests likewise.
    start_ns, end_ns: of its messages."""

    path: Path
    types: dict[str, str]
    counts: dict[str, int]
    definitions: dict[str, tuple[str, str]]
    digests: dict[str, str]
    facts: dict[str, str]
    start_ns: int
    end_ns: int

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]: ...
    def close(self) -> None: ...


class WholeFile:
    """A file by rosbags' reader. Errors: whatever that raises for a file that is not as it should be."""

    def __init__(self, path: Path):
        self.path = path
        self._reader = Reader(path)
        self._reader.open()
        self.types: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.definitions: dict[str, tuple[str, str]] = {}
        self.digests: dict[str, str] = {}
        for c in self._reader.connections:
            if not isinstance(c.topic, str) or not isinstance(c.msgtype, str):
                raise ValueError("the name or type of a topic is damaged")
            self.types[c.topic] = c.msgtype
            self.counts[c.topic] = self.counts.get(c.topic, 0) + c.msgcount
            if c.msgdef.format != MessageDefinitionFormat.NONE and c.msgdef.data:
                form = "ros2msg" if c.msgdef.format == MessageDefinitionFormat.MSG else "ros2idl"
                self.definitions[c.msgtype] = form, c.msgdef.data
            if c.digest:
                self.digests[c.msgtype] = c.digest
        self.total = self._reader.message_count
        self.facts = (mcap_scan if path.suffix == ".mcap" else sqlite_file).facts_of(path)
        self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time - 1    # rosbags' end is exclusive

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        connections = [c for c in self._reader.connections if c.topic in topics]
        if connections:
            for connection, time_ns, data in self._reader.messages(connections):
                yield connection.topic, time_ns, data

    def close(self) -> None:
        self._reader.close()


class CutFile:
    """An MCAP file without a sound end. Errors: BagError where it is no MCAP file."""

    def __init__(self, path: Path):
        self.path = path
        self.scan: Scan = Scanner(path).run()
        self.types: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        for number, channel in self.scan.channels.items():
            schema = self.scan.schemas.get(channel.schema)
            self.types[channel.topic] = schema.name if schema else ""
            self.counts[channel.topic] = self.counts.get(channel.topic, 0) + self.scan.counts.get(number, 0)
        self.definitions = {s.name: (s.encoding, s.text) for s in self.scan.schemas.values() if s.text}
        self.digests: dict[str, str] = {}
        self.facts = self.scan.facts
        self.start_ns, self.end_ns = self.scan.start_ns, self.scan.end_ns

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, bytes]]:
        return self.scan.messages(topics)

    def close(self) -> None:
        pass


def open_file(path: Path, problems: list[str]) -> Source:
    """Opens a file of a bag; what it lacks is added to the problems. Errors: BagError where nothing can be read."""
    try:
        if path.suffix == ".db3" and sqlite_file.recover(path):
            problems.append(f"{path.name} was cut off while written; it ends with its last commit")
        file = WholeFile(path)
        if file.total != sum(file.counts.values()):
            problems.append(f"{path.name} holds {file.total - sum(file.counts.values())} messages that are of no topic")
        return file
    except BagError:
        raise
    except Exception as error:    # whatever damage leads rosbags, SQLite or a decompressor to
        if path.suffix != ".mcap":
            raise BagError(f"{path} cannot be read: {error}; was it cut off while written?") from error
        whole = error
    cut = CutFile(path)
    if not cut.types:
        raise BagError(f"{path} cannot be read: {whole}; nothing of it can be used; was it cut off while written?")
    problems += cut.scan.problems or [f"{path.name} has no sound end: {whole}"]
    return cut
