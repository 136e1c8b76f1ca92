# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection whose every step has one deadline: opening it, from the name to the end of TLS, and an
exchange, from the first byte sent to the last of the answer.

h11 speaks the protocol; the socket is ours, because the time limits of HTTP clients are for each address, write and
read, and a server that takes or sends a byte now and then would hold a robot for ever.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from .names import look_up

MOST_HEADERS = 2**16
MOST_ANSWER = 16 * 2**20
READ = 2**16


class Lost(Exception):
    """The server cannot be reached, or the connection broke; no answer came. The text says what happened."""


class Slow(Lost):
    """No whole answer within the time given."""


class Unspoken(Exception):
    """What came is no HTTP, or too much of it."""


@dataclass(frozen=True)
class Address:
    """Where a server is. base: path before /act, without a slash at its end."""

    secure: bool
    host: str
    port: int
    base: str

    @classmethod
    def read(cls, url: str) -> Address:
        """http://host:port, with or without /act at its end. Errors: ValueError."""
        parts = urlsplit(url.strip())
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise ValueError(f"the server's address {url!r} is not of the form http://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the server's address holds a user or a password; put a token into a file instead")
        secure = parts.scheme == "https"
        base = parts.path.rstrip("/").removesuffix("/act")
        return cls(secure, parts.hostname, port or (443 if secure else 80), base)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}{self.base}"


@dataclass(frozen=True)
class Reply:
    """status: of HTTP; body: all of it."""

    status: int
    body: bytes


class Connection:
    """Not thread-safe. connect_within [s]: for a connection to be made, the look-up of a name and TLS included."""

    def __init__(self, address: Address, connect_within: float):
        self._address, self._connect_within = address, connect_within
        self._socket: socket.socket | None = None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEADERS)
        self._deadline = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it can be used again: the other end may have closed it meanwhile."""
        if self._socket is None:
            return False
        self._socket.setblocking(False)
        try:
            # Nothing was asked: what comes is an end, or something that nobody may take for an answer.
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        self.close()
        return False

    def open(self, within: float) -> None:
        """Errors: Lost."""
        self.close()
        self._deadline = time.monotonic() + min(within, self._connect_within)
        address = self._address
        made: socket.socket | None = None
        try:
            made = self._reach(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.secure:
                made.settimeout(self._left())
                made = ssl.create_default_context().wrap_socket(made, server_hostname=address.host)
        except Slow:
            self._drop(made)
            raise
        except TimeoutError:
            self._drop(made)
            raise Slow(f"no connection within {min(within, self._connect_within):g} s") from None
        except OSError as error:
            self._drop(made)
            raise Lost(error.strerror or str(error)) from None
        self._socket = made
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEADERS)

    def _reach(self, address: Address) -> socket.socket:
        """The first of a host's addresses that answers; those still to try share the time that is left."""
        places = look_up(address.host, address.port, self._left())
        failure: OSError = OSError(f"{address.host} has no address")
        for tried, (family, place) in enumerate(places):
            made: socket.socket | None = None
            try:
                made = socket.socket(family, socket.SOCK_STREAM)
                made.settimeout(self._left() / (len(places) - tried))
                made.connect(place)
                return made
            except OSError as error:
                self._drop(made)
                failure = error
            except Slow:
                self._drop(made)
                raise
        raise failure

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes, within: float) -> Reply:
        """One request and its answer. After an error, and where the server wants it, the connection is closed.

        Errors: Lost, Slow, Unspoken.
        """
        assert self._socket is not None
        self._deadline = time.monotonic() + within
        try:
            reply = self._exchange(method, path, headers, body)
        except (TimeoutError, Slow):
            self.close()
            raise Slow(f"no answer within {within:.1f} s") from None
        except OSError as error:
            self.close()
            raise Lost(error.strerror or str(error)) from None
        except h11.RemoteProtocolError as error:
            self.close()
            raise Unspoken(f"its answer is no HTTP: {error}") from None
        except BaseException:
            self.close()
            raise
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        return reply

    def close(self) -> None:
        self._drop(self._socket)
        self._socket = None

    @staticmethod
    def _drop(made: socket.socket | None) -> None:
        if made is not None:
            with contextlib.suppress(OSError):
                made.close()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Slow("the time is over")
        return left

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        assert self._socket is not None
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        fields = {"Host": f"{host}:{self._address.port}", "Accept-Encoding": "identity", **headers}
        if body or method == "POST":
            fields["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=self._address.base + path, headers=list(fields.items()))
        parts = [self._http.send(request)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        try:
            self._send(b"".join(part for part in parts if part))
        except (BrokenPipeError, ConnectionResetError):
            self._deadline = min(self._deadline, time.monotonic() + 1.0)    # it may have said why
        return self._answer()

    def _send(self, data: bytes) -> None:
        """Not by `sendall`, whose limit is for each record where there is TLS."""
        assert self._socket is not None
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self._left())
            rest = rest[self._socket.send(rest) :]

    def _answer(self) -> Reply:
        status, answer = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                assert self._socket is not None
                self._socket.settimeout(self._left())
                data = self._socket.recv(READ)
                if not data and self._http.their_state is h11.SEND_RESPONSE and not status:
                    raise Lost("the server closed the connection without an answer")
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                encoding = dict(event.headers).get(b"content-encoding", b"identity")
                if encoding != b"identity":
                    raise Unspoken(f"its answer is compressed ({encoding.decode('ascii', 'replace')[:20]}), unasked")
            elif isinstance(event, h11.Data):
                answer += event.data
                if len(answer) > MOST_ANSWER:
                    raise Unspoken(f"its answer has more than {MOST_ANSWER} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, bytes(answer))
            elif isinstance(event, h11.ConnectionClosed):
                raise Lost("the server closed the connection without an answer")
