# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The setpoint loop: calls a function at a steady rate on the steady clock, in a thread of its own."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable


class SetpointLoop:
    """Calls `tick` every `period` seconds, on absolute deadlines, until closed. A late tick is not made up for.

    Where `tick` raises, the loop ends and `error` says why: a controller without setpoints must not look alive.
    """

    def __init__(self, period: float, tick: Callable[[], None]):
        self._period, self._tick = period, tick
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name="setpoints", daemon=True)

    def start(self) -> None:
        # What is alive now stays alive: the collector need not walk it in the middle of a period.
        gc.collect()
        gc.freeze()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.error = error

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._tick()
            due = max(due + self._period, time.monotonic())
