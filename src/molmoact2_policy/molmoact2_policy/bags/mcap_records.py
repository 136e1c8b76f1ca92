# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Records of the MCAP container (https://mcap.dev/spec), version 0, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(11, 16)
PADDING = 0x80                    # an opcode of our own: readers skip such records
HEAD = struct.Struct("<BQ")       # opcode and length of every record
MESSAGE_HEAD = struct.Struct("<HIQQ")    # channel, sequence, log time, publish time
CHUNK_HEAD = struct.Struct("<QQQI")      # start, end, uncompressed size, CRC
ENDING_SIZE = 37                  # footer and magic
ENCODING = "ros2msg"


class Channel(NamedTuple):
    """A topic. schema: of its type, by number."""

    number: int
    schema: int
    topic: str
    encoding: str
    metadata: dict[str, str]


class Schema(NamedTuple):
    number: int
    name: str
    encoding: str
    text: str


@dataclass
class ChunkInfo:
    """Where a chunk lies, what it covers, and where the indexes of its messages are."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    index_length: int
    compression: str
    stored_size: int
    size: int
    index_offsets: dict[int, int] = field(default_factory=dict)    # by channel


def record(opcode: int, body: bytes) -> bytes:
    return HEAD.pack(opcode, len(body)) + body


def padding(length: int) -> bytes:
    """The head of a record that fills `length` bytes, head included."""
    return HEAD.pack(PADDING, length - HEAD.size)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def mapping(values: Mapping[str, str]) -> bytes:
    data = b"".join(text(key) + text(value) for key, value in values.items())
    return struct.pack("<I", len(data)) + data


def header(library: str) -> bytes:
    return MAGIC + record(HEADER, text("ros2") + text(library))


def schema(s: Schema) -> bytes:
    return record(SCHEMA, struct.pack("<H", s.number) + text(s.name) + text(s.encoding) + text(s.text))


def channel(c: Channel) -> bytes:
    head = struct.pack("<HH", c.number, c.schema)
    return record(CHANNEL, head + text(c.topic) + text(c.encoding) + mapping(c.metadata))


def metadata(name: str, values: Mapping[str, str]) -> bytes:
    return record(METADATA, text(name) + mapping(values))


def metadata_index(name: str, offset: int, length: int) -> bytes:
    return record(METADATA_INDEX, struct.pack("<QQ", offset, length) + text(name))


def message_index(number: int, entries: Iterable[tuple[int, int]]) -> bytes:
    """entries: (log time, offset in the chunk) of each message of a channel."""
    data = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return record(MESSAGE_INDEX, struct.pack("<HI", number, len(data)) + data)


def chunk_index(c: ChunkInfo) -> bytes:
    offsets = b"".join(struct.pack("<HQ", *item) for item in c.index_offsets.items())
    body = struct.pack("<QQQQI", c.start_ns, c.end_ns, c.offset, c.length, len(offsets)) + offsets
    body += struct.pack("<Q", c.index_length) + text(c.compression) + struct.pack("<QQ", c.stored_size, c.size)
    return record(CHUNK_INDEX, body)


def statistics(
    counts: Mapping[int, int], schemas: int, chunks: int, metadatas: int, start_ns: int, end_ns: int
) -> bytes:
    """counts: messages by channel."""
    body = struct.pack("<QHIIIIQQ", sum(counts.values()), schemas, len(counts), 0, metadatas, chunks, start_ns, end_ns)
    channels = b"".join(struct.pack("<HQ", *item) for item in counts.items())
    return record(STATISTICS, body + struct.pack("<I", len(channels)) + channels)


def data_end() -> bytes:
    return record(DATA_END, struct.pack("<I", 0))


def ending(summary_start: int, offsets_start: int) -> bytes:
    """Footer and magic: the last bytes of a file."""
    return record(FOOTER, struct.pack("<QQI", summary_start, offsets_start, 0)) + MAGIC


def summary(groups: Iterable[tuple[int, bytes]], at: int) -> tuple[bytes, int]:
    """The summary section, to be written at the offset `at`, and the offset of its part that says where each group is.

    groups: (opcode, records) in the order in which they stand.
    """
    body, offsets = bytearray(), bytearray()
    for opcode, records in groups:
        if records:
            offsets += record(SUMMARY_OFFSET, struct.pack("<BQQ", opcode, at + len(body), len(records)))
            body += records
    return bytes(body + offsets), at + len(body)


class Fields:
    """Reads the fields of a record one after the other. Errors: struct.error or ValueError where it is too short."""

    def __init__(self, data: bytes | memoryview):
        self._data, self._at = memoryview(data), 0

    def unpack(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._at)
        self._at += struct.calcsize("<" + layout)
        return values

    def take(self, length: int) -> memoryview:
        if self._at + length > len(self._data):
            raise ValueError("a record is shorter than it says")
        self._at += length
        return self._data[self._at - length : self._at]

    def text(self) -> str:
        (length,) = self.unpack("I")
        return bytes(self.take(length)).decode()

    def mapping(self) -> dict[str, str]:
        (length,) = self.unpack("I")
        inner, values = Fields(self.take(length)), {}
        while inner._at < length:
            key = inner.text()
            values[key] = inner.text()
        return values


def records(data: bytes | memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(opcode, offset, body) of each record of a chunk. Errors: ValueError where one is cut off."""
    view, at = memoryview(data), 0
    while at < len(view):
        if at + HEAD.size > len(view):
            raise ValueError("a chunk ends within a record")
        opcode, length = HEAD.unpack_from(view, at)
        end = at + HEAD.size + length
        if end > len(view):
            raise ValueError("a chunk ends within a record")
        yield opcode, at, view[at + HEAD.size : end]
        at = end
