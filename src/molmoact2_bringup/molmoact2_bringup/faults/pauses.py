# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pauses of the computer that a campaign runs on, and what they excuse. No ROS here.

Doubles and worlds are programs, and where they are not given a processor for a while they answer late, as no device
does. A row that fails for that alone (reasons.Late) while that happens is tried again, and that is told.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from .reasons import Late, joined

if TYPE_CHECKING:
    from .stage import Row

TICK = 0.004      # [s] for which the watch sleeps
PAUSE = 0.02      # [s] later than that it is woken, where setpoints come every 0.01 s
KEPT = 100_000    # newest pauses
TRIES = 3         # of a row, at most
ANSWERS_WITHIN = 60.0    # [s]


class PauseWatch:
    """A process that wants nothing but to be woken in time, until closed or until its parent ends; it has the rights of
    a double to be run. Errors: RuntimeError where it does not begin."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_watch, args=(theirs,), name="pauses", daemon=True)
        self.process.start()
        theirs.close()
        if self._asked(0.0) is None:
            self.close()
            raise RuntimeError("the process that watches for pauses of this computer does not begin")

    def longest(self, since: float) -> float:
        """The longest pause [s] that ended since then (steady clock, [s]); 0.0 where there was none above PAUSE, or
        where the watch has ended and nothing is known of it."""
        return self._asked(since) or 0.0

    def _asked(self, since: float) -> float | None:
        try:
            self._pipe.send(since)
            return float(self._pipe.recv()) if self._pipe.poll(ANSWERS_WITHIN) else None
        except (OSError, EOFError):
            return None

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()


def _watch(pipe: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)    # they reach its parent, too, which ends it
    pauses: deque[tuple[float, float]] = deque(maxlen=KEPT)    # when it was woken, how much too late [s]
    before = time.monotonic()
    while True:
        try:
            asked = pipe.poll(TICK)
            before, due = time.monotonic(), before + TICK    # from one waking to the next, so that nothing is missed
            if before - due > PAUSE:
                pauses.append((before, before - due))
            if asked:
                since = pipe.recv()
                pipe.send(max((late for when, late in pauses if when >= since), default=0.0))
        except (OSError, EOFError):    # the parent is no more
            return


def tried(row: Callable[[], Row], longest: Callable[[float], float], recover: Callable[[], str]) -> Row:
    """A row's outcome, of its last try. longest: pause since a time, as of PauseWatch; recover: called after a try that
    failed; returns which promise was broken besides, or why there can be no further try."""
    excused: list[str] = []
    while True:
        began = time.monotonic()
        done = row()
        if not done.failed:
            break
        pause = longest(began)
        done = replace(done, failed=joined(done.failed, recover()))
        if not pause or not isinstance(done.failed, Late) or len(excused) + 1 == TRIES:
            break
        excused.append(f"the computer paused for {pause:.2f} s ({done.failed})")
    return replace(done, excused="; ".join(excused))
