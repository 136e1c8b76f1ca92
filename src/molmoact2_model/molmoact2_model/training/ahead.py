# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Batches made in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Full, Queue

from .batch import Batch

AHEAD = 3    # batches that wait for the model
PATIENCE = 3.0    # seconds


class Ahead:
    """Batches, a few ahead of the model. What goes wrong in making them is raised where the next one is asked for."""

    def __init__(self, batches: Iterator[Batch]):
        self._batches, self._queue = batches, Queue[Batch | Exception](AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="batches", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        # Whoever pressed Ctrl-C does not wait for the first batch of a large buffer.
        self._thread.join(PATIENCE if kind is KeyboardInterrupt else None)

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> Batch:
        found = self._queue.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                if not self._put(batch):
                    return
        except Exception as error:    # raised where the batch is asked for
            self._put(error)

    def _put(self, what: Batch | Exception) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(what, timeout=0.1)
                return True
            except Full:
                continue
        return False
