# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The one thread that runs the engine, and who waits for it: of one session only the newest request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .extension import BUSY, LATE, STOPPING, SUPERSEDED

MOST_REMEMBERED = 256    # keys whose last begun request is known


class NotRun(Exception):
    """A request that was not run. code: of the extension."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code = code


@dataclass
class _Job:
    key: str | None
    order: int
    work: Callable[[], Any]
    latest: float
    future: Future = field(default_factory=Future)


class EngineThread:
    """Runs one thing at a time, in the order in which it came. Thread-safe.

    most_waiting: how many may wait; the next is refused. clock: monotonic [s].
    """

    def __init__(self, most_waiting: int = 8, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = most_waiting, clock
        self._waiting: list[_Job] = []
        self._begun: dict[str, int] = {}    # the largest order begun, by key; the key last begun is the last
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        with self._news:
            return len(self._alive())

    def submit(self, key: str | None, order: int, work: Callable[[], Any], within: float) -> Future:
        """Its result, or the exception that `work` raised, or NotRun.

        key: of a session; of two of the same key the one with the larger `order` stays, and none is begun after a
        larger one. within [s]: from now; it is not begun later. Cancelling what waits takes it away; what runs is run
        to its end.
        """
        job = _Job(key, order, work, self._clock() + within)
        with self._news:
            waiting = self._alive()
            older = next((index for index, other in enumerate(waiting) if key is not None and other.key == key), None)
            if self._closed:
                _refuse(job, STOPPING, "the server is being stopped")
            elif key is not None and order < self._begun.get(key, order):
                _refuse(job, SUPERSEDED, "a newer request of the same session was begun before this one was read")
            elif older is not None:
                newer, other = sorted((job, waiting[older]), key=lambda one: one.order, reverse=True)
                _refuse(other, SUPERSEDED, "a newer request of the same session came before this one was begun")
                waiting[older] = newer
            elif len(waiting) >= self._most:
                _refuse(job, BUSY, f"{len(waiting)} requests wait already; try again later")
            else:
                waiting.append(job)
            self._waiting = waiting
            self._news.notify()
        return job.future

    def close(self, wait: float = 5.0) -> None:
        """Refuses what waits, and waits up to `wait` seconds for what runs."""
        with self._news:
            self._closed = True
            for job in self._alive():
                _refuse(job, STOPPING, "the server is being stopped")
            self._waiting = []
            self._news.notify()
        self._thread.join(wait)

    def _alive(self) -> list[_Job]:
        return [job for job in self._waiting if not job.future.cancelled()]

    def _next(self) -> _Job | None:
        with self._news:
            self._news.wait_for(lambda: self._closed or self._alive())
            waiting = self._alive()
            self._waiting = waiting[1:]
            if waiting:
                self._note(waiting[0])
            return waiting[0] if waiting else None

    def _note(self, job: _Job) -> None:
        if job.key is not None and self._clock() <= job.latest:
            self._begun[job.key] = max(job.order, self._begun.pop(job.key, job.order))
            if len(self._begun) > MOST_REMEMBERED:
                del self._begun[next(iter(self._begun))]

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if self._clock() > job.latest:
                _refuse(job, LATE, "its deadline had passed before its turn came; the server is too slow or too busy")
            elif job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(job.work())
                except BaseException as error:    # every one of them is the caller's
                    job.future.set_exception(error)
            del job    # what it holds, images and result, is not held while waiting


def _refuse(job: _Job, code: str, text: str) -> None:
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(NotRun(code, text))
