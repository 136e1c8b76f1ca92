# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a rosbag2 bag with the message definitions that it carries itself; no ROS is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys.store import Typestore

DROPPED = "molmoact2_recorder_dropped"      # prefix of the keys in the bag's custom data, followed by the topic
UNREADABLE = (AnyReaderError, ReaderError, OSError, EOFError, ValueError, TypeError, KeyError)


class BagError(RuntimeError):
    """A bag cannot be written or read; the text names it and says why."""


class Names(dict[int, str]):
    """Names of the values of an enumeration; a value that has none names itself."""

    def __missing__(self, value: int) -> str:
        return f"unknown value {value}"


class Bag:
    """One bag, open for reading. Use as a context manager.

    Messages are deserialised by the definitions in the bag, whose hashes must fit. Errors: BagError.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._stack = ExitStack()

    def __enter__(self) -> Bag:
        if not self.path.exists():
            raise BagError(f"bag {self.path} does not exist; check the path")
        try:
            self._reader = self._stack.enter_context(AnyReader([self.path]))
        except UNREADABLE as error:
            raise BagError(f"bag {self.path} cannot be read: {error}; was it cut off while written?") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic that was recorded, also of those on which none came."""
        counts: dict[str, int] = {}
        for connection in self._reader.connections:
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        return counts

    @property
    def types(self) -> dict[str, str]:
        """Type name of each topic."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    @property
    def dropped(self) -> dict[str, int] | None:
        """Messages that the recorder had to drop, by topic; None where the bag does not say."""
        (reader,) = self._reader.readers
        assert isinstance(reader, Reader)    # a rosbag2 bag; AnyReader knows those of ROS 1 too
        custom = reader.storage.metadata.custom or {}
        drops = {k.removeprefix(DROPPED): int(v) for k, v in custom.items() if k.startswith(DROPPED)}
        return drops or None

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Receive times of the first and the last message [ns]; None for a bag without messages."""
        if not self._reader.message_count:
            return None
        return self._reader.start_time, self._reader.end_time - 1    # rosbags' end is exclusive

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, str, Any, int]]:
        """(topic, type name, message, receive time [ns]) in the order of receive times.

        topics: only these, where given.
        """
        connections = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not connections:
            return
        try:
            for connection, receive_ns, data in self._reader.messages(connections):
                message = self._reader.deserialize(data, connection.msgtype)
                yield connection.topic, connection.msgtype, message, receive_ns
        except UNREADABLE as error:
            raise BagError(f"bag {self.path} is damaged: {error}") from error

    @property
    def typestore(self) -> Typestore:
        """The message definitions of this bag."""
        return self._reader.typestore

    def fields(self, typename: str) -> tuple[str, ...]:
        """Names of the fields of a message type; empty where the bag does not hold that type."""
        if typename not in self._reader.typestore.fielddefs:
            return ()
        return tuple(name for name, _ in self._reader.typestore.fielddefs[typename][1])

    def names(self, typename: str, field_type: str, prefix: str = "") -> Names:
        """Names of the constants of a message type, by value: those of one field type whose name has the prefix.

        The prefix is cut off and the rest is lower case. Empty where the bag does not hold that type.
        """
        if typename not in self._reader.typestore.fielddefs:
            return Names()
        constants, _ = self._reader.typestore.fielddefs[typename]
        return Names(
            (int(value), name.removeprefix(prefix).lower())
            for name, kind, value in constants
            if kind == field_type and name.startswith(prefix)
        )


def read_bag(path: Path) -> Iterator[tuple[str, str, Any, int]]:
    """(topic, type name, message, receive time [ns]) of every message of a bag. Errors: BagError."""
    with Bag(path) as bag:
        yield from bag.messages()


def stamp_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
