# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Messages on their way to the disk: bounded, so that a slow disk costs messages, and neither memory nor time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable


class BoundedQueue:
    """Serialized messages, first in, first out. put() never waits; what does not fit is dropped and counted.

    received, dropped: messages by topic; received counts the dropped too.
    """

    def __init__(self, limit_bytes: int, topics: Iterable[str]):
        self.received = dict.fromkeys(topics, 0)
        self.dropped = dict.fromkeys(self.received, 0)
        self.bytes_received = 0
        self._limit, self._bytes = limit_bytes, 0
        self._messages: deque[tuple[str, int, bytes]] = deque()
        self._wake = threading.Condition()
        self._closed = False

    def put(self, topic: str, receive_ns: int, data: bytes) -> None:
        with self._wake:
            if self._closed:
                return
            self.received[topic] += 1
            self.bytes_received += len(data)
            if self._bytes + len(data) > self._limit:
                self.dropped[topic] += 1
                return
            self._messages.append((topic, receive_ns, data))
            self._bytes += len(data)
            self._wake.notify()

    def get(self, timeout: float) -> tuple[str, int, bytes] | None:
        """The oldest message; None where none came within the timeout [s], or none will come."""
        with self._wake:
            if not self._messages and not self._closed:
                self._wake.wait(timeout)
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._bytes -= len(message[2])
            return message

    def lose(self, topic: str, count: int = 1) -> None:
        """Counts messages as dropped that were taken out but could not be written."""
        with self._wake:
            self.dropped[topic] += count

    def close(self) -> None:
        """Takes no more; what is in it can still be taken out."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    @property
    def ended(self) -> bool:
        """Closed, and all of it taken out."""
        with self._wake:
            return self._closed and not self._messages
