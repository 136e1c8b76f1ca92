# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The node's side of the setpoint process: starts it, asks it, hears it, ends it. No ROS here."""

from __future__ import annotations

import itertools
import multiprocessing
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from .driver import DriverError
from .health import Health
from .setpoint_process import PACKET, STOP_PATIENCE, Answer, Failed, Ready, Request, Settings, receive, run, send
from .snapshot import Snapshot

ANSWER_WITHIN = 2.0    # [s]
SPARE = 1.0            # [s] beyond what coming to rest and closing the driver may take
RETRY = 0.005          # [s]
CALMING = ("stop", "pause", "disarm")


class CoreClient:
    """A setpoint process.

    on_news: called in a thread of this object's own after each snapshot. on_text: likewise, with what the process says
    of itself. Errors: DriverError where the driver cannot be connected.
    """

    def __init__(self, settings: Settings, on_news: Callable[[], None], on_text: Callable[[str], None]):
        self._on_news, self._on_text = on_news, on_text
        self._end_within = STOP_PATIENCE + settings.driver.close_within + SPARE
        self._numbers = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._news = threading.Condition()
        self.ended = False
        self._closing = False
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # At exit multiprocessing waits for its children; this one ends when its socket is closed, and not before.
        weakref.finalize(self, self._socket.close)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET)
        self._process = multiprocessing.get_context("spawn").Process(target=run, args=(settings, other), daemon=True)
        try:
            self._process.start()
            other.close()
            self.privileges = self._wait_until_ready()
            first = receive(self._socket, None)
            while not isinstance(first, Snapshot):    # e.g. why a simulated arm is not armed yet
                first = receive(self._socket, None)
        except BaseException:    # also a signal; the process ignores those itself
            if self._process.is_alive():
                self._process.kill()
            raise
        self.snapshot: Snapshot = first
        self.health: Health | None = None    # the newest; None before the first
        self._heard = self._health_heard = time.monotonic()
        threading.Thread(target=self._read, name="setpoints", daemon=True).start()

    def _wait_until_ready(self) -> str:
        try:
            message = receive(self._socket, None)
        except EOFError:
            raise DriverError("the setpoint process ended while it connected the driver; see the lines above") from None
        if isinstance(message, Failed):
            self._process.join(self._end_within)
            raise DriverError(message.text)
        assert isinstance(message, Ready)
        return message.privileges

    @property
    def silent(self) -> float:
        """For how long nothing has come from the process [s]."""
        return time.monotonic() - self._heard

    @property
    def health_age(self) -> float:
        """For how long no health has come from the process [s]."""
        return time.monotonic() - self._health_heard

    @property
    def exit_code(self) -> int | None:
        self._process.join(1.0)
        return self._process.exitcode

    def tell(self, method: str, *arguments: Any) -> bool:
        """Passes something on; returns whether it could go at once."""
        return send(self._socket, Request(method, arguments))

    def operate(self, verb: str) -> tuple[bool, str]:
        """An operator's verb; returns whether it was done, and the reason or the refusal in words."""
        number, until = next(self._numbers), time.monotonic() + ANSWER_WITHIN
        # What brings the arm to rest is done whenever it is reached.
        request = Request("operate", (verb,), number, 0.0 if verb in CALMING else until)
        while not send(self._socket, request):
            if time.monotonic() > until or self.ended:
                return False, "the setpoint process cannot be reached"
            time.sleep(RETRY)
        with self._news:
            if not self._news.wait_for(lambda: number in self._answers or self.ended, ANSWER_WITHIN):
                return False, f"the setpoint process did not answer within {ANSWER_WITHIN:g} s"
            answer = self._answers.pop(number, None)
        return (answer.done, answer.text) if answer else (False, "the setpoint process has ended")

    def _read(self) -> None:
        while True:
            try:
                message = receive(self._socket, None)
            except Exception:    # it has closed its end, or says what nobody understands
                with self._news:
                    self.ended = True
                    self._news.notify_all()
                if not self._closing:
                    self._on_news()
                return
            if isinstance(message, Snapshot):
                self.snapshot, self._heard = message, time.monotonic()
                self._on_news()
            elif isinstance(message, Health):
                self.health, self._health_heard = message, time.monotonic()
            elif isinstance(message, Answer) and message.number == 0:
                self._on_text(message.text)
            elif isinstance(message, Answer):
                with self._news:
                    self._answers[message.number] = message
                    self._news.notify_all()

    def close(self) -> None:
        """Lets the arm come to rest, then ends the process."""
        self._closing, until = True, time.monotonic() + ANSWER_WITHIN
        while not self.tell("end") and not self.ended and time.monotonic() < until:
            time.sleep(RETRY)
        self._socket.shutdown(socket.SHUT_WR)
        self._process.join(self._end_within)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def abandon(self) -> None:
        """For a node that has failed: the process brings the arm to rest, and goes on holding one that would fall."""
        self._closing = True
        self._socket.shutdown(socket.SHUT_WR)
