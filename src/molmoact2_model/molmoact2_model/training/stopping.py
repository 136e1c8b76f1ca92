# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM in a run: weights are saved between steps, never half of one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

STOPPING = b"\nstopping after this step; Ctrl-C again stops at once, and what was saved last stands\n"


class Stop:
    """Inside the block the first Ctrl-C is noted, to be looked at between steps; the second raises KeyboardInterrupt
    where it comes. So does the first as long as nothing has been done that is worth a wait. SIGTERM, of a machine that
    is taken away, counts as a first one however often it comes. asked: it was noted."""

    def __init__(self) -> None:
        self.asked, self._worth = False, False
        self._before: dict[signal.Signals, Any] = {}

    def step_done(self) -> None:
        """From here on there is something to save."""
        self._worth = True

    def __enter__(self) -> Stop:
        self.asked = self._worth = False
        # A process in the background, whose shell had it ignore Ctrl-C, goes on doing so.
        if threading.current_thread() is threading.main_thread():
            for number, act in ((signal.SIGINT, self._note), (signal.SIGTERM, self._end)):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, act)
        return self

    def __exit__(self, *_: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, *_: object) -> None:
        if self.asked or not self._worth:
            raise KeyboardInterrupt
        self.asked = True
        with contextlib.suppress(OSError):    # whoever reads it may be gone
            os.write(2, STOPPING)    # print could be in the middle of a line of its own

    def _end(self, *_: object) -> None:
        if not self._worth:
            raise KeyboardInterrupt
        self.asked = True
