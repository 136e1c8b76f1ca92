# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The server as a whole: a socket, uvicorn on it, and what must hold before anybody can reach it."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import InputError
from .app import App
from .service import Service
from .tokens import Token

MOST_CONNECTIONS = 64
HEAD_WITHIN = 10   # [s]; for a request's line and headers, from when it is connected or their first byte came
KEEP_ALIVE = 30    # [s]; a robot asks again within a second
END_WITHIN = 5     # [s]; answers under way at a stop


def check_reach(host: str, token: Token | None) -> None:
    """Errors: InputError where others than this machine could ask, and no token is asked of them."""
    if token is None and not is_loopback(host):
        raise InputError(
            f"--host {host} can be reached by other machines: give --token-file, or serve on 127.0.0.1 and let clients "
            "come through an ssh tunnel (docs/remote.md)"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise InputError(f"--host {host}: {error}") from None
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any that is free. Errors: InputError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; is another server there? (--port)"
        ) from None


class _Protocol(H11Protocol):
    """Hangs up where no whole head of a request comes, since each connection counts among MOST_CONNECTIONS before it
    is asked for a token. uvicorn itself has a limit only after a first request."""

    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as of uvicorn's own
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:    # and not all of a head came yet
            self._expect_head()
        else:
            self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._too_late is None:    # further bytes are no reason to wait longer
            self._too_late = self.loop.call_later(HEAD_WITHIN, self.timeout_keep_alive_handler)

    def _expect_nothing(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None


class HttpServer:
    """Serves a service on a socket. Closes both."""

    def __init__(self, service: Service, app: App, listener: socket.socket):
        self._service, self._listener = service, listener
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app.asgi(), log_config=None, access_log=False, server_header=False, lifespan="off", http=_Protocol,
                limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=END_WITHIN,
            )
        )
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Until SIGINT or SIGTERM; of the main thread."""
        # uvicorn gives a signal that ended it to whoever handled it before.
        with _quiet(signal.SIGTERM), suppress(KeyboardInterrupt):
            self._serve()

    def start(self) -> None:
        """In a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._listener])
        finally:
            self._listener.close()
            self._service.close()


@contextmanager
def _quiet(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, before)
