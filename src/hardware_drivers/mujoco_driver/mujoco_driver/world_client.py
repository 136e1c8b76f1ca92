# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node's side of the world's process: starts it, asks it, ends it. No ROS here."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from typing import Any

from .bus import BusError
from .world_process import Failed, Ready, Report, Settings, run

ANSWER_WITHIN = 1.0    # [s]
END_WITHIN = 6.0       # [s]


class WorldClient:
    """A world in a process of its own; one thread calls. Errors: BusError where it cannot be made."""

    def __init__(self, settings: Settings):
        self._numbers = itertools.count(1)
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=run, args=(settings, other), name="physics", daemon=True)
        self._process.start()
        other.close()
        self.privileges = self._wait_until_ready()

    def _wait_until_ready(self) -> str:
        try:
            message = self._pipe.recv()
        except EOFError:
            raise BusError(f"{self._ended()} while it made the scene; see the lines above") from None
        except BaseException:
            self._process.kill()
            raise
        if isinstance(message, Failed):
            self._process.join(END_WITHIN)
            raise BusError(message.text)
        assert isinstance(message, Ready)
        return message.privileges

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def error(self) -> str:
        """Why the world does not go on; empty while its process runs."""
        return "" if self._process.is_alive() else f"{self._ended()}; see the lines above"

    def _ended(self) -> str:
        self._process.join(1.0)
        return f"the process of physics and servo bus ended with exit code {self._process.exitcode}"

    def report(self) -> Report:
        """Errors: BusError, as of each of these."""
        return self._ask("report")

    def reset(self) -> int:
        """Places what lies in the scene anew; returns the seed."""
        return self._ask("reset")

    def begin(self, seed: int) -> str:
        """Everything as at a start with that seed; returns why it was refused, else an empty text."""
        return self._ask("begin", seed)

    def set_bus_fault(self, fault: str) -> None:
        """fault: one of bus_faults.FAULTS."""
        self._ask("set_bus_fault", fault)

    def _ask(self, method: str, *arguments: Any) -> Any:
        number, deadline = next(self._numbers), time.monotonic() + ANSWER_WITHIN
        try:
            self._pipe.send((number, method, arguments))
            while self._pipe.poll(max(deadline - time.monotonic(), 0.0)):
                answered, answer = self._pipe.recv()
                if answered == number:    # another one is a late answer
                    return answer
        except (EOFError, OSError):
            raise BusError("the process of physics and servo bus has ended") from None
        raise BusError(f"the process of physics and servo bus did not answer within {ANSWER_WITHIN:g} s")

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(END_WITHIN)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
