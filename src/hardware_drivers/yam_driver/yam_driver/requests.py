# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""What other threads ask of the loop, which does it between two exchanges."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime

import can

from arm_controller.driver import DriverError

from .motors import Silent


class Requests:
    """where: the channel, in words."""

    def __init__(self, where: str):
        self._where = where
        self._waiting: deque[tuple[Callable[[], None], Future[None]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, call: Callable[[], None], within: float) -> None:
        """Waits until the loop has called it, so many seconds. Errors: DriverError, and what it raises itself."""
        future: Future[None] = Future()
        self._waiting.append((call, future))
        try:
            future.result(within)
        except NotInTime:
            future.cancel()
            raise DriverError(f"the loop of {self._where} did not answer within {within:g} s") from None

    def serve(self, lost: str) -> None:
        """Calls what is waited for; in the loop's thread. lost: why nothing can be done, empty where it can."""
        while self._waiting:
            call, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if lost:
                    raise DriverError(lost)
                call()
            except (Silent, OSError, can.CanError) as error:
                future.set_exception(DriverError(f"{error} does not answer on {self._where}; check its cable"))
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(None)
