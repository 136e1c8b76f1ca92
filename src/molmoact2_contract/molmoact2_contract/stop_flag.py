# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The wish to end a process, as its signal handlers note it."""

from __future__ import annotations

import time

LOOK = 0.02    # [s]


class StopFlag:
    """A flag that a signal handler may set.

    threading.Event is none: its set() takes a lock, and a handler runs in the main thread between any two steps of it,
    also where that thread holds the lock (in wait(), clear(), or set() for another signal). There it waits for itself,
    and no further Ctrl-C ends the process. This flag has no lock.
    """

    def __init__(self) -> None:
        self._asked = False

    def is_set(self) -> bool:
        return self._asked

    def set(self) -> None:
        self._asked = True

    def clear(self) -> None:
        self._asked = False

    def wait(self, seconds: float | None = None) -> bool:
        """Returns at most LOOK after the flag is set, or when the time [s] is over; returns whether it is set."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._asked:
            left = LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, LOOK))
        return self._asked
