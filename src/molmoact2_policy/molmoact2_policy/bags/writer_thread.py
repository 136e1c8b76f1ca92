# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The thread between a queue and a bag: writes, commits, watches the disk, and keeps count of what is lost."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .bag import DROPPED
from .bounded_queue import BoundedQueue
from .writer import PERIOD, BagWriter

CHECK = 1.0    # between looks at the free space [s]

Message = tuple[str, int, bytes]    # topic, receive time [ns], CDR


def check_space(folder: Path, min_free: int) -> None:
    """Errors: OSError where less than `min_free` bytes are free on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    if free < min_free:
        raise OSError(
            f"only {free / 1e6:.0f} MB are free where the bag is written, less than {min_free / 1e6:.0f} MB, which are "
            "kept free; make space or record elsewhere"
        )


class WriterThread:
    """Begins at once. error: why it stopped writing; from then on all that comes is counted as dropped.

    change: what becomes of a message before it is written (images are compressed there), called from the thread.
    min_free: bytes that must stay free on the disk; below, the bag is completed and nothing more is written.
    """

    def __init__(
        self, queue: BoundedQueue, writer: BagWriter, change: Callable[[str, int, bytes], Message], min_free: int
    ):
        self.error: Exception | None = None
        self.min_free = min_free
        self._queue, self._writer, self._change = queue, writer, change
        self._checked = 0.0
        self._given: dict[str, tuple[str, int]] = {}    # to the writer: by its topic, the queue's topic and how many
        self._thread = threading.Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is queued and completes the bag. `error` says whether that went well."""
        self._queue.close()
        self._thread.join()
        for step in (self._note_drops, self._writer.close):
            try:
                step()
            except Exception as error:    # whatever the storage says
                self.error = self.error or error

    def _run(self) -> None:
        while not self._queue.ended:
            message = self._queue.get(PERIOD / 2)
            if self.error is not None:
                if message:
                    self._queue.lose(message[0])
                continue
            try:
                if message:
                    self._write(message)
                self._keep_up()
            except Exception as error:    # any failure of the storage: it is said, what is lost is counted
                self._fail(error)

    def _write(self, message: Message) -> None:
        topic, receive_ns, data = self._change(*message)
        self._given[topic] = message[0], self._given.get(topic, ("", 0))[1] + 1
        self._writer.write(topic, receive_ns, data)

    def _keep_up(self) -> None:
        now = time.monotonic()
        if now - self._checked >= CHECK:
            self._checked = now
            self._note_drops()
            check_space(self._writer.path, self.min_free)
        self._writer.commit_when_due()

    def _note_drops(self) -> None:
        self._writer.put_facts({DROPPED + topic: str(count) for topic, count in self._queue.dropped.items()})

    def _fail(self, error: Exception) -> None:
        """What was written is made readable while there may be space for it."""
        self.error = error
        self._writer.release_reserve()
        with contextlib.suppress(Exception):    # where there is none, what was committed before stays
            self._writer.commit()
        written = self._writer.counts
        for topic, (source, count) in self._given.items():
            self._queue.lose(source, count - written[topic])
