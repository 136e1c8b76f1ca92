# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Calls of the vendor's library that may block for long, waited for no longer than one may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Overdue(Exception):
    """The call has not come back in time; it goes on."""


class Call:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]):
        self._call, self._done = call, threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="franka call", daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:    # given to whoever waits
            self._error = error
        self._done.set()

    def result(self, within: float) -> Any:
        """What the call returned, or its error. within: [s]. Errors: Overdue, or what the call raised."""
        if not self._done.wait(within):
            raise Overdue
        if self._error is not None:
            raise self._error
        return self._value
