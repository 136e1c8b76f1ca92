# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reads an MCAP file from its front, record by record, where its end is missing or damaged; and gives it a new end."""

from __future__ import annotations

import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from backports import zstd

from . import mcap_records as mcap
from .errors import BagError
from .mcap_file import FACTS
from .mcap_records import ChunkInfo, Fields
from .merging import merged

LARGEST = 2**32    # no record is larger [bytes]
DECOMPRESS = {"": bytes, "lz4": lz4.frame.decompress, "zstd": zstd.decompress}
DAMAGED = (ValueError, KeyError, struct.error, RuntimeError, zstd.ZstdError)


@dataclass
class Scan:
    """What was found in a file. problems: in words, what is missing. end: where its sound part ends."""

    path: Path
    schemas: dict[int, mcap.Schema] = field(default_factory=dict)
    channels: dict[int, mcap.Channel] = field(default_factory=dict)
    chunks: list[ChunkInfo] = field(default_factory=list)
    loose: list[tuple[int, int, int, int]] = field(default_factory=list)    # no chunk: (time, channel, at, length)
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    start_ns: int = 2**63 - 1
    end_ns: int = 0
    metadata: list[bytes] = field(default_factory=list)    # indexes of its metadata records
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    end: int = 0
    closed: bool = False        # nothing is behind the data but the end that MCAP asks for
    damaged: list[int] = field(default_factory=list)    # where records are that cannot be used
    indexes: bytes = b""        # of the last chunk, where they were cut off

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, bytes]]:
        """(topic, time [ns], data) in the order of times. topics: only these, where given."""
        wanted = {n: c.topic for n, c in self.channels.items() if topics is None or c.topic in topics}
        with self.path.open("rb") as file:
            sources = [(chunk.start_ns, self._in_chunk(file, chunk, wanted)) for chunk in self.chunks]
            loose = sorted(entry for entry in self.loose if entry[1] in wanted)
            if loose:
                sources.append((loose[0][0], self._loose(file, loose, wanted)))
            yield from merged(sources, lambda message: message[1])

    def _in_chunk(self, file: BinaryIO, chunk: ChunkInfo, wanted: dict[int, str]) -> Iterator[tuple[str, int, bytes]]:
        file.seek(chunk.offset + mcap.HEAD.size)
        content, _ = _content(file.read(chunk.length - mcap.HEAD.size))
        found = []
        for opcode, _, body in mcap.records(content):
            if opcode == mcap.MESSAGE:
                number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(body)
                if number in wanted:
                    found.append((wanted[number], time_ns, body[mcap.MESSAGE_HEAD.size :]))
        for topic, time_ns, data in sorted(found, key=lambda m: m[1]):
            yield topic, time_ns, bytes(data)

    def _loose(
        self, file: BinaryIO, entries: list[tuple[int, int, int, int]], wanted: dict[int, str]
    ) -> Iterator[tuple[str, int, bytes]]:
        for time_ns, number, at, length in entries:
            file.seek(at)
            yield wanted[number], time_ns, file.read(length)


class Scanner:
    """Makes a Scan of a file. Errors: BagError where it is no MCAP file at all."""

    def __init__(self, path: Path):
        self.scan = Scan(path)
        self._last: ChunkInfo | None = None    # the chunk whose indexes come now, and what they must be
        self._entries: dict[int, list[tuple[int, int]]] = {}

    def run(self) -> Scan:
        scan = self.scan
        try:
            with scan.path.open("rb") as file:
                self._size = os.fstat(file.fileno()).st_size
                if file.read(len(mcap.MAGIC)) != mcap.MAGIC:
                    raise BagError(f"{scan.path} does not begin as an MCAP file does; is it one?")
                scan.end = file.tell()
                while self._next(file):
                    pass
        except OSError as error:
            raise BagError(f"{scan.path} cannot be read: {error}") from error
        if self._last and set(self._last.index_offsets) != set(self._entries):
            self._replace_indexes(self._last)
        return scan

    def _next(self, file: BinaryIO) -> bool:
        """Takes one record; returns whether another may follow."""
        scan, at = self.scan, file.tell()
        head = file.read(mcap.HEAD.size)
        opcode, length = mcap.HEAD.unpack(head) if len(head) == mcap.HEAD.size else (0, 0)
        if opcode == mcap.DATA_END:
            scan.closed = at == scan.end and self._ends_well(file)
            return False
        if not opcode or at + mcap.HEAD.size + length > self._size or length > LARGEST:
            scan.problems.append(f"{scan.path.name} is cut off after {scan.end} bytes")
            return False
        if opcode == mcap.PADDING or opcode > mcap.DATA_END:
            file.seek(length, os.SEEK_CUR)
            return True
        body = file.read(length)
        try:
            self._take(opcode, at, body)
        except DAMAGED as error:
            scan.damaged.append(at)
            scan.problems.append(f"{scan.path.name}: what stands at byte {at} is damaged and left out: {error}")
        scan.end = file.tell()
        return True

    def _ends_well(self, file: BinaryIO) -> bool:
        file.seek(-mcap.ENDING_SIZE, os.SEEK_END)
        ending = file.read()
        return ending[0] == mcap.FOOTER and ending.endswith(mcap.MAGIC)

    def _take(self, opcode: int, at: int, body: bytes) -> None:
        scan, fields = self.scan, Fields(body)
        if opcode in (mcap.SCHEMA, mcap.CHANNEL):
            self._declare(opcode, body)
        elif opcode == mcap.MESSAGE:
            number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(body)
            skip = mcap.MESSAGE_HEAD.size
            scan.loose.append((time_ns, number, at + mcap.HEAD.size + skip, len(body) - skip))
            self._count(number, time_ns)
        elif opcode == mcap.CHUNK:
            self._take_chunk(at, body)
        elif opcode == mcap.MESSAGE_INDEX and self._last is not None:
            (number,) = fields.unpack("H")
            self._last.index_offsets[number] = at
            self._last.index_length += mcap.HEAD.size + len(body)
        elif opcode == mcap.METADATA:
            name, values = fields.text(), fields.mapping()
            scan.metadata.append(mcap.metadata_index(name, at, mcap.HEAD.size + len(body)))
            if name == FACTS:
                scan.facts.update(values)

    def _take_chunk(self, at: int, body: bytes) -> None:
        self._last = None
        content, info = _content(body)
        entries: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for opcode, offset, inner in mcap.records(content):
            if opcode in (mcap.SCHEMA, mcap.CHANNEL):
                self._declare(opcode, bytes(inner))
            elif opcode == mcap.MESSAGE:
                number, _, time_ns, _ = mcap.MESSAGE_HEAD.unpack_from(inner)
                entries[number].append((time_ns, offset))
        for number, found in entries.items():
            for time_ns, _ in found:
                self._count(number, time_ns)
        info.offset, info.length = at, mcap.HEAD.size + len(body)
        self.scan.chunks.append(info)
        self._last, self._entries = info, entries

    def _declare(self, opcode: int, body: bytes) -> None:
        fields = Fields(body)
        if opcode == mcap.SCHEMA:
            (number,) = fields.unpack("H")
            self.scan.schemas[number] = mcap.Schema(number, fields.text(), fields.text(), fields.text())
        else:
            number, schema = fields.unpack("HH")
            made = mcap.Channel(number, schema, fields.text(), fields.text(), fields.mapping())
            self.scan.channels[number] = made

    def _count(self, number: int, time_ns: int) -> None:
        scan = self.scan
        scan.counts[number] += 1
        scan.start_ns, scan.end_ns = min(scan.start_ns, time_ns), max(scan.end_ns, time_ns)

    def _replace_indexes(self, chunk: ChunkInfo) -> None:
        """Those of the last chunk, which were cut off."""
        self.scan.end = chunk.offset + chunk.length
        indexes, chunk.index_offsets = bytearray(), {}
        for number, entries in self._entries.items():
            chunk.index_offsets[number] = self.scan.end + len(indexes)
            indexes += mcap.message_index(number, entries)
        chunk.index_length, self.scan.indexes = len(indexes), bytes(indexes)


def _content(body: bytes) -> tuple[bytes, ChunkInfo]:
    """The records of a chunk, and its ChunkInfo but for where it lies. Errors: one of DAMAGED."""
    fields = Fields(body)
    start, end, size, checksum = fields.unpack("QQQI")
    compression = fields.text()
    (stored,) = fields.unpack("Q")
    content = DECOMPRESS[compression](bytes(fields.take(stored)))
    if len(content) != size or (checksum and zlib.crc32(content) != checksum):
        raise ValueError("a chunk does not have the size or checksum that it names")
    return content, ChunkInfo(start, end, 0, 0, 0, compression, stored, size)


def complete(scan: Scan) -> None:
    """Gives the file an end behind its sound part, in place. Errors: BagError where it cannot be written."""
    counts = {number: scan.counts.get(number, 0) for number in scan.channels}
    start = scan.start_ns if scan.end_ns else 0
    chunks, metadata = len(scan.chunks), len(scan.metadata)
    groups = [
        (mcap.SCHEMA, b"".join(map(mcap.schema, scan.schemas.values()))),
        (mcap.CHANNEL, b"".join(map(mcap.channel, scan.channels.values()))),
        (mcap.STATISTICS, mcap.statistics(counts, len(scan.schemas), chunks, metadata, start, scan.end_ns)),
        (mcap.METADATA_INDEX, b"".join(scan.metadata)),
        (mcap.CHUNK_INDEX, b"".join(map(mcap.chunk_index, scan.chunks))),
    ]
    before = scan.indexes + mcap.data_end()
    summary, offsets = mcap.summary(groups, scan.end + len(before))
    tail = before + summary + mcap.ending(scan.end + len(before), offsets)
    try:
        with scan.path.open("r+b") as file:
            for at in scan.damaged:    # readers pass over it
                file.seek(at)
                file.write(bytes([mcap.PADDING]))
            file.seek(scan.end)
            file.write(tail)
            file.truncate()
    except OSError as error:
        raise BagError(f"{scan.path} cannot be completed: {error}") from error


def facts_of(path: Path) -> dict[str, str]:
    """What stands in a complete file besides messages. Empty where nothing does, or the file has no sound end."""
    facts: dict[str, str] = {}
    try:
        with path.open("rb") as file:
            file.seek(-mcap.ENDING_SIZE, os.SEEK_END)
            summary, offsets = struct.unpack_from("<QQ", file.read(), mcap.HEAD.size)
            file.seek(summary)
            for opcode, _, body in mcap.records(file.read(offsets - summary) if offsets > summary else b""):
                if opcode == mcap.METADATA_INDEX:
                    at, length = Fields(body).unpack("QQ")
                    file.seek(at + mcap.HEAD.size)
                    fields = Fields(file.read(length - mcap.HEAD.size))
                    if fields.text() == FACTS:
                        facts.update(fields.mapping())
    except (OSError, *DAMAGED):
        pass    # of another recorder, or damaged, which reading it says
    return facts
