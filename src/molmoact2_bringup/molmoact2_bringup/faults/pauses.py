# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Pauses of the computer that a campaign runs on, and what they excuse. No ROS here.

Doubles and worlds are programs, and where they are not given a processor for a while they answer late, as no device
does. A row that fails while that happens says nothing of the arm's software: it is tried again, and that is told.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stage import Row

TICK = 0.004      # [s] for which the watch sleeps
PAUSE = 0.02      # [s] later than that it is woken, where setpoints come every 0.01 s
TRIES = 3         # of a row, at most
BEGINS_WITHIN = 60.0    # [s]


class PauseWatch:
    """A process that wants nothing but to be woken in time, until closed; it has the rights of a double to be run.
    Errors: RuntimeError where it does not begin."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._told, tells = context.Pipe(duplex=False)
        self.process = context.Process(target=_watch, args=(tells,), name="pauses", daemon=True)
        self.process.start()
        tells.close()
        self._pauses: list[tuple[float, float]] = []    # when it was woken, how much too late [s]
        if not self._told.poll(BEGINS_WITHIN):
            raise RuntimeError("the process that watches for pauses of this computer does not begin")

    def longest(self, since: float) -> float:
        """The longest pause [s] that ended since then (steady clock, [s]); 0.0 where there was none above PAUSE."""
        while self._told.poll():
            self._pauses.append(self._told.recv())
        self._pauses = [(when, late) for when, late in self._pauses if when >= since]
        return max((late for _, late in self._pauses), default=0.0)

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self._told.close()


def _watch(tells: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # a terminal's Ctrl-C reaches it too; its parent ends it
    tells.send((0.0, 0.0))
    while True:
        due = time.monotonic() + TICK
        time.sleep(TICK)
        now = time.monotonic()
        if now - due > PAUSE:
            tells.send((now, now - due))


def tried(row: Callable[[], Row], longest: Callable[[float], float], recover: Callable[[], None]) -> Row:
    """A row's outcome, of its last try. longest: pause since a time, as of PauseWatch; recover: called after a try that
    failed."""
    excused: list[str] = []
    while True:
        began = time.monotonic()
        done = row()
        if not done.failed:
            break
        pause = longest(began)
        recover()
        if not pause or len(excused) + 1 == TRIES:
            break
        excused.append(f"the computer paused for {pause:.2f} s ({done.failed})")
    return replace(done, excused="; ".join(excused))
