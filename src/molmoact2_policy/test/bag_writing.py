# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A writer as a process, to be killed or to run out of space: python bag_writing.py BAG STORAGE [LIMIT_BYTES].

Prints how many messages were committed. Message k on /words is received at (k + 1) s and says k.
"""

from __future__ import annotations

import resource
import struct
import sys
from pathlib import Path

from molmoact2_policy.bags.definitions import definitions_of
from molmoact2_policy.bags.metadata import Topic
from molmoact2_policy.bags.writer import UNLIMITED, BagWriter, Limits

WORD = "std_msgs/msg/String"
PER_COMMIT = 20


def word(number: int, size: int = 10_000) -> bytes:
    """A std_msgs/String as CDR: the number, filled up with blanks."""
    text = str(number).encode().ljust(size) + b"\0"
    return b"\0\1\0\0" + struct.pack("<I", len(text)) + text


def begin(path: Path, storage: str, limits: Limits = UNLIMITED, facts: dict[str, str] | None = None) -> BagWriter:
    """With the topics /words and, on which nothing comes, /silence."""
    writer = BagWriter(path, storage, limits, facts)
    definition = definitions_of([WORD])[WORD]
    writer.add_topic(Topic("/words", definition))
    writer.add_topic(Topic("/silence", definition))
    return writer


def main() -> None:
    path, storage = Path(sys.argv[1]), sys.argv[2]
    writer = begin(path, storage, Limits(bytes=6_000_000))
    if len(sys.argv) > 3:    # as a disk does that is full: writing beyond fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    number = 0
    while True:
        try:
            writer.write("/words", (number + 1) * 10**9, word(number))
            number += 1
            if number % PER_COMMIT == 0:
                writer.commit()
                print(number, flush=True)
        except OSError as error:
            print(f"full: {error}", flush=True)
            return    # as a process that dies of it


if __name__ == "__main__":
    main()
