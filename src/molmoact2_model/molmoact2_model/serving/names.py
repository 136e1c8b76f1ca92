# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""Names of computers looked up within a time, which the system's resolver knows nothing of: it may keep a thread for
half a minute and cannot be interrupted."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

FRESH = 10.0    # [s]; what came too late for one attempt is of use to the next

Places = list[tuple[socket.AddressFamily, tuple]]


class _Lookup:
    """One question to the resolver, in a thread of its own, which ends when the resolver answers."""

    def __init__(self, host: str, port: int):
        self.done, self.ended = threading.Event(), 0.0
        self.places: Places = []
        self.error: OSError | None = None
        threading.Thread(target=self._run, args=(host, port), name=f"look up {host}", daemon=True).start()

    def _run(self, host: str, port: int) -> None:
        try:
            self.places = _ask(host, port)
        except OSError as error:
            self.error = error
        except UnicodeError:
            self.error = OSError(f"{host!r} is no name of a computer")
        self.ended = time.monotonic()
        self.done.set()

    @property
    def of_use(self) -> bool:
        return not self.done.is_set() or time.monotonic() - self.ended < FRESH


_lock = threading.Lock()
_running: dict[tuple[str, int], _Lookup] = {}    # so that a resolver that hangs has one thread of a name, not many


def look_up(host: str, port: int, within: float) -> Places:
    """Where a host listens: family and address as a socket takes them, at least one, in the order to try.

    within [s]. Errors: TimeoutError; OSError for a name that there is not.
    """
    with contextlib.suppress(socket.gaierror, UnicodeError):
        return _ask(host, port, socket.AI_NUMERICHOST)    # numbers are read at once
    with _lock:
        lookup = _running.get((host, port))
        if lookup is None or not lookup.of_use:
            lookup = _running[host, port] = _Lookup(host, port)
    if not lookup.done.wait(within):
        raise TimeoutError(f"the name {host} was not looked up in time")
    with _lock:
        if _running.get((host, port)) is lookup:
            del _running[host, port]
    if lookup.error is not None:
        raise lookup.error
    return lookup.places


def _ask(host: str, port: int, flags: int = 0) -> Places:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]
