# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Recent images by their capture stamp, as they came from the wire; only the one that is looked for is ever read."""

from __future__ import annotations

import struct
from collections import OrderedDict

LIMIT_BYTES = 96 * 2**20    # three seconds of 640x480 at 30 Hz: the latency of a large model


def wire_stamp_ns(data: bytes) -> int:
    """Stamp of a serialized message that begins with a header [ns]."""
    order = "<" if data[1] & 1 else ">"    # CDR: second byte of the encapsulation
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return seconds * 1_000_000_000 + nanoseconds


class ImageStore:
    """Serialized images by stamp, the oldest dropped beyond a number of bytes."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES):
        self._limit, self._bytes = limit_bytes, 0
        self._images: OrderedDict[int, bytes] = OrderedDict()

    def put(self, data: bytes) -> int:
        """Keeps an image; returns its stamp [ns]."""
        stamp = wire_stamp_ns(data)
        self._bytes += len(data) - len(self._images.pop(stamp, b""))
        self._images[stamp] = data
        while self._bytes > self._limit and len(self._images) > 1:
            _, dropped = self._images.popitem(last=False)
            self._bytes -= len(dropped)
        return stamp

    def get(self, stamp_ns: int) -> bytes | None:
        """The image captured at exactly that time; None where it is not there."""
        return self._images.get(stamp_ns)

    def drop_before(self, stamp_ns: int) -> None:
        """Drops images older than that."""
        for stamp in [stamp for stamp in self._images if stamp < stamp_ns]:
            self._bytes -= len(self._images.pop(stamp))

    def clear(self) -> None:
        self._images.clear()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes
