# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""An MCAP file that can be read at any moment of its being written.

MCAP files are found by their end: a footer there says where the summary is. Here the footer stands at the end from the
first moment on, ahead of the data, which grows from the front into the gap between. What is committed is chunks first,
then a summary of them in one of two places before the footer, and at last the footer, one small write within a page,
that turns to the new summary. So a process that is killed, or a disk that is full, leaves what was committed before.
Closing cuts the file to what it needs.

 header  schemas, channels  chunks …  padding(gap)  data end  summary A  padding  summary B  padding  footer
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from . import mcap_records as mcap
from .definitions import Definition
from .mcap_records import ChunkInfo

LIBRARY = "molmoact2"
FACTS = "molmoact2"            # name of the metadata record with what is known besides messages
ROSBAG2 = "rosbag2"            # and of that in which rosbag2 looks for what metadata.yaml says
CHUNK_SIZE = 4 * 2**20
STEP = 16 * 2**20              # the file is longer than its data by this at most, until it is closed
SUMMARY_SIZE = 2**18           # for each of the two summaries at first
PAGE = 4096
MOST_PARTS = 1024             # of one write


class McapFile:
    """One file under writing. Errors: OSError; what was committed stays, and closing or committing may be tried again.

    size: bytes of what was written, committed or not. counts: messages by topic.
    """

    suffix = ".mcap"

    def __init__(self, path: Path):
        self.path = path
        self.counts: dict[str, int] = {}
        self.start_ns, self.end_ns = 2**63 - 1, 0
        self._schemas: dict[str, mcap.Schema] = {}
        self._channels: dict[str, mcap.Channel] = {}
        self._chunks: list[ChunkInfo] = []
        self._metadata: list[bytes] = []        # the indexes of metadata records
        self._plain = bytearray()               # records to stand outside of chunks
        self._chunk: list[bytes] = []           # its records, heads and data apart: images are not copied
        self._chunk_size = 0
        self._indexes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._span = (2**63 - 1, 0)
        self._summary_size = SUMMARY_SIZE
        self._committed = self._groups()        # of the summary that a reader finds
        start = mcap.header(LIBRARY)
        self._data_end = len(start)             # where the next record goes
        self._head = b""                        # of the first record since the last commit, which is there but for it
        self._gap = self._data_end              # where that record is
        self._slots, self._end = self._layout(STEP)    # where the summaries begin, and the length of the file
        self._slot = 1                          # the summary that the footer points to
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            self._write(start, 0)
            self._write(mcap.data_end(), self._slots)
            self._point_to(self._committed)
            self._pad()
        except BaseException:
            self.abandon()
            path.unlink()
            raise

    @property
    def size(self) -> int:
        return self._data_end + self._chunk_size + len(self._plain)

    def add_topic(self, topic: str, definition: Definition, qos: str) -> None:
        """qos: the profiles that are offered, as YAML."""
        if definition.typename not in self._schemas:
            made = mcap.Schema(len(self._schemas) + 1, definition.typename, mcap.ENCODING, definition.text)
            self._schemas[definition.typename] = made
            self._plain += mcap.schema(made)
        notes = {"offered_qos_profiles": qos, "topic_type_hash": definition.digest}
        number = self._schemas[definition.typename].number
        self._channels[topic] = mcap.Channel(len(self._channels) + 1, number, topic, "cdr", notes)
        self._plain += mcap.channel(self._channels[topic])
        self.counts[topic] = 0

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        number = self._channels[topic].number
        self._indexes[number].append((time_ns, self._chunk_size))
        head = mcap.HEAD.pack(mcap.MESSAGE, mcap.MESSAGE_HEAD.size + len(data))
        head += mcap.MESSAGE_HEAD.pack(number, self.counts[topic] & 0xFFFFFFFF, time_ns, time_ns)
        self._chunk += [head, data]
        self._chunk_size += len(head) + len(data)
        self._span = min(self._span[0], time_ns), max(self._span[1], time_ns)
        self.counts[topic] += 1
        self.start_ns, self.end_ns = min(self.start_ns, time_ns), max(self.end_ns, time_ns)
        if self._chunk_size >= CHUNK_SIZE:
            self._end_chunk()

    def put_facts(self, facts: Mapping[str, str]) -> None:
        """Another metadata record; what it says counts instead of what earlier ones say."""
        self._put_metadata(FACTS, facts)

    def commit(self) -> None:
        """From now on a reader finds what was written."""
        self._end_chunk()
        groups = self._groups()
        needed = sum(len(records) for _, records in groups) + PAGE
        if needed > self._summary_size:
            self._summary_size = 2 * needed
            self._grow(0)
        self._pad()
        self._point_to(groups)
        self._show()

    def close(self, metadata: str) -> None:
        """Commits, then ends the file with all that MCAP asks for. metadata: what stands in metadata.yaml."""
        self.commit()
        self._put_metadata(ROSBAG2, {"serialized_metadata": metadata})
        self._end_chunk()
        # The tail goes into the gap; only once it is there is the file cut behind it.
        head = mcap.data_end()
        self._make_room(len(head) + self._summary_size)
        summary, offsets = mcap.summary(self._groups(), self._data_end + len(head))
        tail = head + summary + mcap.ending(self._data_end + len(head), offsets)
        self._write(tail, self._data_end)
        self._show()
        os.ftruncate(self._file, self._data_end + len(tail))
        self.abandon()

    def abandon(self) -> None:
        """Leaves the file as it was last committed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # --- data ---------------------------------------------------------------------------------------------------------
    def _put_metadata(self, name: str, values: Mapping[str, str]) -> None:
        self._flush_plain()
        data = mcap.metadata(name, values)
        at = self._data_end
        self._append([data])
        self._metadata.append(mcap.metadata_index(name, at, len(data)))

    def _flush_plain(self) -> None:
        if self._plain:
            self._append([bytes(self._plain)])
            self._plain.clear()

    def _end_chunk(self) -> None:
        self._flush_plain()
        if not self._chunk:
            return
        start, end = self._span
        size, checksum = self._chunk_size, 0
        for part in self._chunk:
            checksum = zlib.crc32(part, checksum)
        fields = mcap.CHUNK_HEAD.pack(start, end, size, checksum) + mcap.text("") + struct.pack("<Q", size)
        head = mcap.HEAD.pack(mcap.CHUNK, len(fields) + size) + fields
        info = ChunkInfo(start, end, self._data_end, len(head) + size, 0, "", size, size)
        indexes = bytearray()
        for number, entries in self._indexes.items():
            info.index_offsets[number] = info.offset + info.length + len(indexes)
            indexes += mcap.message_index(number, entries)
        info.index_length = len(indexes)
        self._append([head, *self._chunk, bytes(indexes)])
        self._chunks.append(info)
        self._chunk, self._chunk_size = [], 0
        self._indexes.clear()
        self._span = (2**63 - 1, 0)

    def _append(self, parts: list[bytes]) -> None:
        """Into the gap, where no reader looks before the next commit. The first part holds the head of a record."""
        length = sum(map(len, parts))
        self._make_room(length)
        if self._head:
            self._write_all(parts, self._data_end)
        else:    # until it is committed the padding stands in the place of its head
            self._write_all([parts[0][mcap.HEAD.size :], *parts[1:]], self._data_end + mcap.HEAD.size)
            self._head = parts[0][: mcap.HEAD.size]
        self._data_end += length

    def _pad(self) -> None:
        """Behind the data: the gap."""
        self._write(mcap.padding(self._slots - self._data_end), self._data_end)

    def _show(self) -> None:
        """What was appended takes the place of the padding there was."""
        if self._head:
            self._write(self._head, self._gap)
        self._head, self._gap = b"", self._data_end

    # --- the end ------------------------------------------------------------------------------------------------------
    def _layout(self, gap: int) -> tuple[int, int]:
        """Where the summaries begin and the file ends, so that `gap` bytes of data fit before them."""
        slots = self._data_end + gap
        needed = slots + len(mcap.data_end()) + 2 * self._summary_size + mcap.ENDING_SIZE
        return slots, -(-needed // PAGE) * PAGE    # so the footer lies within one page: it is there whole or not at all

    def _make_room(self, length: int) -> None:
        if self._data_end + length + mcap.HEAD.size > self._slots:
            self._grow(length)

    def _grow(self, length: int) -> None:
        """Moves summaries and footer away from the data."""
        before = self._slots, self._end, self._slot
        footer = os.pread(self._file, mcap.ENDING_SIZE, self._end - mcap.ENDING_SIZE)
        try:
            self._slots, self._end = self._layout(length + STEP)
            self._write(footer, self._end - mcap.ENDING_SIZE)    # one write: the file never ends otherwise
            self._write(mcap.data_end(), self._slots)
            self._point_to(self._committed)
        except OSError:
            self._slots, self._end, self._slot = before
            os.ftruncate(self._file, self._end)    # the old footer is still there, and what it points to
            raise
        self._write(mcap.padding(self._slots - self._gap), self._gap)

    def _point_to(self, groups: list[tuple[int, bytes]]) -> None:
        """Writes another summary beside the one that stands, then turns the footer to it."""
        slot = 1 - self._slot
        at = self._slots + len(mcap.data_end()) + slot * self._summary_size
        summary, offsets = mcap.summary(groups, at)
        footer = self._end - mcap.ENDING_SIZE
        self._write(summary + mcap.padding(footer - at - len(summary)), at)
        self._write(mcap.ending(at, offsets), footer)
        self._slot, self._committed = slot, groups

    def _groups(self) -> list[tuple[int, bytes]]:
        """The summary of all that was appended, by kind of record."""
        counts = {self._channels[topic].number: count for topic, count in self.counts.items()}
        chunks, metadata = len(self._chunks), len(self._metadata)
        start = self.start_ns if self.end_ns else 0
        return [
            (mcap.SCHEMA, b"".join(map(mcap.schema, self._schemas.values()))),
            (mcap.CHANNEL, b"".join(map(mcap.channel, self._channels.values()))),
            (mcap.STATISTICS, mcap.statistics(counts, len(self._schemas), chunks, metadata, start, self.end_ns)),
            (mcap.METADATA_INDEX, b"".join(self._metadata)),
            (mcap.CHUNK_INDEX, b"".join(map(mcap.chunk_index, self._chunks))),
        ]

    def _write_all(self, parts: list[bytes], at: int) -> None:
        for first in range(0, len(parts), MOST_PARTS):
            some = parts[first : first + MOST_PARTS]
            length = sum(map(len, some))
            done = os.pwritev(self._file, some, at)
            if done < length:    # cut short by a signal, or by a disk that is nearly full
                self._write(b"".join(some)[done:], at + done)
            at += length

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._file, view, at)
            view, at = view[done:], at + done
