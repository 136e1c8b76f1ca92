# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""A client of `/act` servers: `molmoact2 serve`, and existing ones by the plain protocol. No torch, no ROS.

    client = ActClient("http://127.0.0.1:8202")
    server = client.meet()
    answer = client.act(images, state, "pick up the cube", within=5.0, extra=Extra("1", "my_robot", SessionSettings()))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import results
from . import checks
from .connection import Address, Connection, Lost, Reply, Slow, Unspoken
from .extension import (
    BUSY,
    KEY,
    LATE,
    MOST_WAYPOINTS,
    NAME,
    REFUSED,
    STOPPING,
    SUPERSEDED,
    TOKEN,
    Extra,
    Offer,
    read_offer,
    write_extra,
)
from .pictures import ENCODINGS, write_picture
from .tokens import Token
from .traces import read_trace
from .wire import WireError, dumps, loads, short

AWAY, SLOW, CHANGED = "server_away", "server_slow", "server_changed"
BAD_ANSWER, SERVER_FAILED = "answer_refused", "server_failed"
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0    # [s] before a connection is tried again
SURE_FOR = 3.0    # [s] after an answer; a server that was replaced since must load a checkpoint first
PASSING = (AWAY, SLOW, SUPERSEDED, BUSY, LATE, STOPPING)
LOST = (AWAY, SLOW, BAD_ANSWER, SERVER_FAILED)    # with the others the server says itself that it ran nothing


class ActError(Exception):
    """No answer, or none that may be used. kind: a word to count by, the server's own code where it gave one.

    passing: whether it may pass without anybody's doing, as a server that is away may come back. lost: whether the
    server may have run what was asked, so that it remembers what nobody here has seen.
    """

    def __init__(self, kind: str, text: str, sent: bool = False):
        super().__init__(text)
        self.kind, self.sent = kind, sent

    @property
    def passing(self) -> bool:
        return self.kind in PASSING

    @property
    def lost(self) -> bool:
        return self.sent and self.kind in LOST


@dataclass(frozen=True)
class Server:
    """What a server says of itself; None where it does not. offer: of the extension, None: a plain server."""

    name: str | None
    norm_tag: str | None
    num_cameras: int | None
    state_dim: int | None
    offer: Offer | None


@dataclass(frozen=True)
class Answer:
    """actions: float32 (N, D), finite. seconds: from asking to the answer. trace, flow_steps, guided: where the
    extension was used."""

    actions: np.ndarray
    seconds: float
    trace: results.Trace | None = None
    flow_steps: int = 0
    guided: bool = False


class ActClient:
    """One server, one request at a time. Not thread-safe, but for `check_instruction`.

    connect_within [s]: for a connection. encoding: of images, as in pictures.py. clock: monotonic [s].
    After a connection could not be made the next is not tried before a pause, which doubles up to LONGEST_PAUSE.
    No request is sent twice. Errors of the constructor: ValueError.
    """

    def __init__(
        self, url: str, token: Token | None = None, connect_within: float = 2.0, encoding: str = "raw",
        jpeg_quality: int = 95, clock: Callable[[], float] = time.monotonic,
    ):
        if encoding not in ENCODINGS:
            raise ValueError(f"images as {encoding!r}: expected one of {', '.join(ENCODINGS)}")
        self.address = Address.read(url)
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = token.header
        self._connect_within, self._encoding, self._quality, self._clock = connect_within, encoding, jpeg_quality, clock
        self._connection = Connection(self.address, connect_within)
        self._pause, self._not_before, self._why = 0.0, 0.0, ""
        self._met: Server | None = None
        self._sure = False    # that who is at the address is who was met
        self._heard = 0.0     # [s] on the clock: when it last answered
        self._lengths: dict[int, int] = {}    # of a plain server's answers, by how many waypoints were asked for

    # --- asking -------------------------------------------------------------------------------------------------------
    def meet(self, within: float = 10.0) -> Server:
        """Asks a server what it is. Later connections must find the same, and a plain server's answers must have as
        many waypoints as its first. Errors: ActError."""
        self._met, self._sure, self._not_before, self._lengths = None, False, 0.0, {}
        self._connection.close()
        self._connect(within)
        assert self._met is not None
        return self._met

    def act(
        self, images: Sequence[np.ndarray], state: np.ndarray, instruction: str, *, within: float,
        names: Sequence[str] = (), tag: str = "", num_steps: int = 0, n_action_steps: int = 0, dim: int | None = None,
        extra: Extra | None = None,
    ) -> Answer:
        """One chunk. names: of the images, for servers that know them by name. dim: of an action, where it is known.
        within [s]: for all of it, a new connection included. Errors: ActError."""
        began = self._clock()
        until = began + within
        pictures = [write_picture(image, self._encoding, self._quality) for image in images]
        fields: dict[str, Any] = dict(zip(names, pictures, strict=True)) if names else {"images": pictures}
        fields |= {"instruction": instruction, "state": np.asarray(state, np.float32)}
        given = {"norm_tag": tag, "num_steps": num_steps, "n_action_steps": n_action_steps}
        fields |= {name: value for name, value in given.items() if value}
        self._connect(until - self._clock())
        if extra is not None:
            fields[KEY] = write_extra(extra) | {"deadline": max(until - self._clock(), 0.0)}
        try:
            body = dumps(fields)
            reply = self._exchange("POST", "/act", body, until - self._clock())
            answer = self._understood(reply)
            return self._read_answer(answer, self._clock() - began, n_action_steps, dim, extra)
        except ActError as error:
            error.sent = True
            raise
        except WireError as error:
            self._connection.close()    # whatever else it has to say
            raise ActError(BAD_ANSWER, f"the answer of {self.address.url} is refused: {error}", sent=True) from None
        finally:
            if extra is None:
                self._connection.close()    # some existing servers close it after each answer, and do not say so

    def check_instruction(self, instruction: str, tag: str, num_images: int, depth: str, within: float) -> None:
        """Over a connection of its own, from any thread; only where the extension is offered. Errors: ActError."""
        fields = {"instruction": instruction, "norm_tag": tag, "num_images": num_images, "depth": depth}
        self._once("POST", "/check", fields, within)

    def forget(self, session: str, within: float) -> None:
        """Ends a session of the server. Errors: ActError."""
        self._once("POST", "/reset", {"session_id": session}, within)

    def doubt(self) -> None:
        """Before the next request the server is asked again whether it is the one that was met, as after a pause; over
        a new connection, since behind a proxy an open one outlives the server."""
        self._sure = False
        self._connection.close()

    def close(self) -> None:
        self._connection.close()

    # --- connection ---------------------------------------------------------------------------------------------------
    def _connect(self, within: float) -> None:
        """A connection to the server that was met. Errors: ActError."""
        if self._connection.is_open:
            return
        until = self._clock() + within
        self._open(within)
        if self._sure and self._clock() - self._heard < SURE_FOR:
            return
        server = self._ask_who(until)
        if self._met is not None and (changed := _changed(self._met, server)):
            self._connection.close()
            raise ActError(
                CHANGED, f"the server {self.address.url} is not the one that was met: {'; '.join(changed)}; serve as "
                "before, or configure anew"
            )
        self._met = server
        self._sure = server.offer is None    # one with the extension is asked at each connection
        if not self._connection.is_open:
            self._open(until - self._clock())

    def _open(self, within: float) -> None:
        if self._clock() < self._not_before:
            raise ActError(AWAY, self._why)
        try:
            self._connection.open(within)
        except Lost as error:
            raise self._away(f"cannot be reached: {error}") from None

    def _away(self, how: str) -> ActError:
        """The next connection is made after a pause, and must find the same server."""
        self._sure = False
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self._not_before = self._clock() + self._pause
        self._why = f"the server {self.address.url} {how}; it is tried again after {self._pause:g} s"
        return ActError(AWAY, self._why)

    def _ask_who(self, until: float) -> Server:
        """until [s]: on the clock."""
        reply = self._exchange("GET", "/act", b"", until - self._clock())
        if reply.status in (404, 405):    # the general kind of existing servers says it elsewhere, and less
            self._connection.close()
            self._open(until - self._clock())
            reply = self._exchange("GET", "/health", b"", until - self._clock())
        fields = self._understood(reply)
        try:
            server = _read_server(fields)
        except WireError as error:
            self._connection.close()
            raise ActError(BAD_ANSWER, f"{self.address.url} is no /act server: {error}") from None
        if server.offer is None:
            self._connection.close()
        return server

    def _once(self, method: str, path: str, fields: dict[str, Any], within: float) -> None:
        connection, until, body = Connection(self.address, self._connect_within), self._clock() + within, dumps(fields)
        try:
            connection.open(within)
            self._understood(connection.exchange(method, path, self._headers, body, until - self._clock()))
        except (Lost, Unspoken) as error:
            raise ActError(AWAY, f"the server {self.address.url} does not answer: {error}") from None
        finally:
            connection.close()

    def _exchange(self, method: str, path: str, body: bytes, within: float) -> Reply:
        headers = self._headers if body else {k: v for k, v in self._headers.items() if k != "Content-Type"}
        try:
            reply = self._connection.exchange(method, path, headers, body, within)
        except Slow as error:
            raise ActError(SLOW, f"the server {self.address.url} is too slow: {error}") from None
        except Lost as error:
            raise self._away(f"was lost: {error}") from None
        except Unspoken as error:
            raise ActError(BAD_ANSWER, f"{self.address.url}: {error}") from None
        if reply.status in (502, 503, 504) and not _code(reply):    # a proxy before a server that is not there
            self._connection.close()
            raise self._away(f"is away ({reply.status}): {_said(reply)}")
        self._pause, self._heard = 0.0, self._clock()
        return reply

    # --- answers ------------------------------------------------------------------------------------------------------
    def _understood(self, reply: Reply) -> Any:
        """The fields of an answer. Errors: ActError for one that is an error, or no JSON."""
        url = self.address.url
        if reply.status == 401:
            raise ActError(TOKEN, f"the server {url} refused: {_said(reply)}; give its token in a file")
        if reply.status != 200:
            code = _code(reply) or (SERVER_FAILED if reply.status >= 500 else REFUSED)
            raise ActError(code, f"the server {url} refused ({reply.status}): {_said(reply)}")
        try:
            return checks.mapping(loads(reply.body), "the body")
        except WireError as error:
            raise ActError(BAD_ANSWER, f"the answer of {url} is refused: {error}") from None

    def _read_answer(
        self, fields: Any, seconds: float, waypoints: int, dim: int | None, extra: Extra | None
    ) -> Answer:
        """Errors: WireError."""
        if "actions" not in fields:
            raise WireError(f"it holds no actions, only {short(sorted(fields))}")
        actions = checks.floats(fields["actions"], "actions", (None, dim))
        if len(actions) > MOST_WAYPOINTS:
            raise WireError(f"it holds {len(actions)} waypoints, over {MOST_WAYPOINTS}")
        if extra is None:
            if waypoints and len(actions) < waypoints:
                raise WireError(f"it holds {len(actions)} waypoints, {waypoints} were asked for")
            length = self._lengths.setdefault(waypoints, len(actions))
            if len(actions) != length:
                raise WireError(f"it holds {len(actions)} waypoints, the first answer of this server had {length}")
            return Answer(actions[:waypoints or None], seconds)
        entry = checks.mapping(fields.get(KEY), KEY)
        for name, wanted in (("name", NAME), ("request", extra.request), ("session", extra.session)):
            if entry.get(name) != wanted:
                raise WireError(f"it is for another request: its {name} is {short(entry.get(name))}, not {wanted!r}")
        met = self._met.offer if self._met else None
        if met is None or entry.get("server") != met.server:
            raise WireError(
                "it is of another process than the server that was asked who it is; this one is asked before the next "
                "request. A proxy must send all requests to one and the same server"
            )
        if waypoints and len(actions) != waypoints:
            raise WireError(f"it holds {len(actions)} waypoints, {waypoints} were asked for")
        return Answer(
            actions, seconds, read_trace(entry.get("trace")),
            checks.whole(entry.get("flow_steps"), "flow_steps", 0, 10_000), checks.flag(entry.get("guided"), "guided"),
        )


def _read_server(fields: Any) -> Server:
    if fields.get("status") != "ok":
        raise WireError(f"its status is {short(fields.get('status'))}, expected 'ok'")

    def optional(name: str, read: Callable, *limits: int) -> Any:
        return None if fields.get(name) is None else read(fields[name], name, *limits)

    tag = "norm_tag" if fields.get("norm_tag") is not None else "default_norm_tag"
    return Server(
        name=optional("repo_id", checks.text),
        norm_tag=optional(tag, checks.text) or None,
        num_cameras=optional("num_cameras", checks.whole, 0, 64),
        state_dim=optional("state_dim", checks.whole, 0, 1024),
        offer=read_offer(fields[KEY]) if KEY in fields else None,
    )


def _identity(server: Server) -> dict[str, Any]:
    """What must not change while a robot is driven, by name: a server may be started anew, with the same checkpoint and
    the same defaults. What those are is in recordings, and a client leaves them to the server."""
    offer = server.offer
    known = {"checkpoint": server.name, "norm_tag": server.norm_tag, "extension": offer and NAME}
    if offer is None:
        return known
    defaults = {"num_steps": offer.num_steps, "n_action_steps": offer.n_action_steps}
    return {**offer.machine, **known, "weights": offer.fingerprint, "norm tags": dict(offer.tags), **defaults}


def _changed(met: Server, now: Server) -> list[str]:
    was, found = _identity(met), _identity(now)
    return [
        f"{name} was {short(was.get(name))} and is {short(found.get(name))}"
        for name in was | found if was.get(name) != found.get(name)
    ]


def _entry(reply: Reply) -> dict[str, Any]:
    try:
        entry = loads(reply.body)
    except WireError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _code(reply: Reply) -> str:
    code = _entry(reply).get("code")
    return code if isinstance(code, str) and code.isidentifier() and len(code) <= 32 else ""


def _said(reply: Reply) -> str:
    said = _entry(reply).get("error") or _entry(reply).get("detail") or reply.body[:200].decode("utf-8", "replace")
    text = said if isinstance(said, str) else short(said)
    return "".join(letter if letter.isprintable() else " " for letter in text[:500])
