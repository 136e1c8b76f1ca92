# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The thread between a queue and a bag: writes, commits, watches the disk, and keeps count of what is lost."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable

from .bag import DROPPED
from .bounded_queue import BoundedQueue
from .writer import PERIOD, BagWriter

CHECK = 1.0    # between looks at the free space [s]

Message = tuple[str, int, bytes]    # topic, receive time [ns], CDR


class WriterThread:
    """Begins at once. error: why it stopped writing; from then on all that comes is counted as dropped.

    change: what becomes of a message before it is written (images are compressed there), called from the thread.
    min_free: bytes that must stay free on the disk; below, the bag is completed and nothing more is written.
    """

    def __init__(
        self, queue: BoundedQueue, writer: BagWriter, change: Callable[[str, int, bytes], Message], min_free: int
    ):
        self.error: Exception | None = None
        self._queue, self._writer, self._change, self._min_free = queue, writer, change, min_free
        self._checked = 0.0
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
                    self._writer.write(*self._change(*message))
                self._keep_up()
            except Exception as error:    # any failure of the storage: it is said, what is lost is counted
                if message:
                    self._queue.lose(message[0])
                self._fail(error)

    def _keep_up(self) -> None:
        now = time.monotonic()
        if now - self._checked >= CHECK:
            self._checked = now
            self._note_drops()
            free = shutil.disk_usage(self._writer.path).free
            if free < self._min_free:
                raise OSError(
                    f"only {free / 1e6:.0f} MB are free where the bag is written, less than {self._min_free / 1e6:.0f} "
                    "MB, which are kept free; make space or record elsewhere"
                )
        self._writer.commit_when_due()

    def _note_drops(self) -> None:
        self._writer.put_facts({DROPPED + topic: str(count) for topic, count in self._queue.dropped.items()})

    def _fail(self, error: Exception) -> None:
        """What was written is made readable while there may be space for it."""
        self.error = error
        self._writer.release_reserve()
        with contextlib.suppress(Exception):    # where there is none, what was committed before stays
            self._writer.commit()
