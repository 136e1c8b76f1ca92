# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The bag that a replay writes: new traces and chunks beside the recorded ones."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from molmoact2_msgs.msg import ActionChunk, ReasoningTrace

from ..bags.bag import Bag, BagError
from ..bags.definitions import typename_of, typestore_of
from ..bags.offline import cdr, open_writer
from ..report.run import CHUNKS, TRACES
from .recorded import TRACE_TYPE

PREFIX = "/replay"    # of the topics of new messages
CHUNK_TYPE = "molmoact2_msgs/msg/ActionChunk"


class NewBag:
    """Writes a bag: recorded traces and chunks keep their topics, new ones are on /replay/..., at the recorded time of
    reception. Use as a context manager. Errors: BagError.
    """

    def __init__(self, path: Path, recorded: Bag):
        self.path, self._old = path, recorded.typestore
        names = {typename_of(kind) for kind in (ReasoningTrace, ActionChunk)}
        self._new = typestore_of(names)
        self._writer = open_writer(path)
        add = self._writer.add_connection
        self._connections = {
            PREFIX + TRACES: add(PREFIX + TRACES, TRACE_TYPE, typestore=self._new),
            PREFIX + CHUNKS: add(PREFIX + CHUNKS, CHUNK_TYPE, typestore=self._new),
        }
        for topic, kind in ((TRACES, TRACE_TYPE), (CHUNKS, CHUNK_TYPE)):
            if recorded.types.get(topic) == kind:
                self._connections[topic] = add(topic, kind, typestore=self._old)

    def __enter__(self) -> NewBag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._writer.close()
        except Exception as failure:    # whatever the storage says
            if error is None:
                raise BagError(f"bag {self.path}: writing failed: {failure}") from failure

    def keep(self, topic: str, message: Any, receive_ns: int) -> None:
        """A recorded trace or chunk."""
        if topic in self._connections:
            typename = self._connections[topic].msgtype
            self._write(topic, receive_ns, bytes(self._old.serialize_cdr(message, typename)))

    def add(self, topic: str, message: Any, receive_ns: int) -> None:
        """A new trace or chunk, under the name of the recorded ones."""
        self._write(PREFIX + topic, receive_ns, cdr(message, self._new))

    def _write(self, topic: str, receive_ns: int, data: bytes) -> None:
        try:
            self._writer.write(self._connections[topic], receive_ns, data)
        except Exception as failure:
            raise BagError(f"bag {self.path}: writing failed: {failure}") from failure
