# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""For drivers: calls that may block for long, waited for no longer than a driver may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Overdue(Exception):
    """The call has not come back in time; it goes on."""


class Call:
    """A call in a thread of its own. It keeps nothing alive once its result was taken, without the help of the garbage
    collector, which the setpoint process switches off: a connection ends when its object goes."""

    def __init__(self, call: Callable[[], Any]):
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(call,), name="device call", daemon=True).start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._value = call()
        except BaseException as error:    # given to whoever waits; its traceback would keep what was called
            self._error = error.with_traceback(None)
        del call
        self._done.set()

    def result(self, within: float) -> Any:
        """What the call returned, or its error, once. within: [s]. Errors: Overdue, or what the call raised."""
        if not self._done.wait(within):
            raise Overdue
        value, self._value, error, self._error = self._value, None, self._error, None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error
