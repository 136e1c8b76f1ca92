# Copyright 2026 The MolmoAct2 ROS 2 authors
# SPDX-License-Identifier: Apache-2.0
"""The server's HTTP: paths, token, limits of bodies, and errors as JSON. What requests mean is service.py's."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import DecodeError, InputError, ModelError
from .engine_thread import NotRun
from .extension import FAILED, LATE, NOT_DECODED, REFUSED, SUPERSEDED, TOKEN, TOO_LARGE
from .metrics import CONTENT_TYPE, HUNG_UP, Metrics
from .service import Service
from .tokens import Token
from .wire import WireError, dumps

log = logging.getLogger(__name__)

OPEN_PATH = "/healthz"    # asked by what watches processes; tells nothing
READ_WITHIN = 15.0        # [s] for a whole body
DRAINED = 8               # times the most that is taken; so much of a larger body is read, so that its sender hears why
DECODING = 2              # bodies decoded at a time


class Refusal(Exception):
    """An answer other than 200. code: of the extension."""

    def __init__(self, status: int, code: str, text: str):
        super().__init__(text)
        self.status, self.code = status, code


class HungUp(Exception):
    """The client is gone."""


class App:
    """Makes the ASGI application of a service. token: None: everybody who reaches it may ask."""

    def __init__(self, service: Service, metrics: Metrics, token: Token | None, read_within: float = READ_WITHIN):
        self._service, self._metrics, self._token, self._read_within = service, metrics, token, read_within
        self._most = service.options.most_bytes
        self._decoding: anyio.CapacityLimiter | None = None

    def asgi(self) -> Starlette:
        routes = [
            self._route("/act", self._about, "GET"),
            self._route("/act", self._act, "POST"),
            self._route("/reset", self._reset, "POST"),
            self._route("/check", self._check, "POST"),
            self._route("/health", self._health, "GET"),
            self._route(OPEN_PATH, self._healthz, "GET"),
            self._route("/metrics", self._show_metrics, "GET"),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})

    def _route(self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        async def guarded(request: Request) -> Response:
            return await self._guarded(request, path, answer)

        return Route(path, guarded, methods=[method])

    async def _guarded(
        self, request: Request, path: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        try:
            self._admit(request, path)
            response = await answer(request)
        except Exception as error:
            refusal = _refusal(error)
            self._metrics.count(path, refusal.code)
            if refusal.status >= 500:
                log.warning("%s: %s", path, refusal)
            # What is left of a body must not be taken for the next request.
            return _json({"error": str(refusal), "code": refusal.code}, refusal.status, {"connection": "close"})
        self._metrics.count(path, "ok")
        return response

    def _admit(self, request: Request, path: str) -> None:
        if "origin" in request.headers:
            raise Refusal(403, REFUSED, "requests from web pages are not answered")
        if self._token is not None and path != OPEN_PATH:
            given = request.headers.get("authorization", "")
            if not self._token.matches(given):
                what = "the token is wrong" if given else "no token came"
                raise Refusal(401, TOKEN, f"{what}; send the header 'Authorization: Bearer TOKEN' of this server")

    # --- paths --------------------------------------------------------------------------------------------------------
    async def _about(self, request: Request) -> Response:
        return _json(self._service.about())

    async def _health(self, request: Request) -> Response:
        return _json(self._service.health())

    async def _healthz(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _act(self, request: Request) -> Response:
        arrived, order = time.monotonic(), self._service.order()
        body = await self._body(request)
        asked = await self._off_loop(self._service.read, body)
        del body
        answer = await self._result(request, self._service.submit(asked, order, arrived))
        self._metrics.answered(time.monotonic() - arrived)
        return _json(answer)

    async def _reset(self, request: Request) -> Response:
        body = await self._body(request)
        return _json(await self._result(request, await self._off_loop(self._service.reset, body)))

    async def _check(self, request: Request) -> Response:
        body = await self._body(request)
        return _json(await self._off_loop(self._service.check, body))

    # --- parts --------------------------------------------------------------------------------------------------------
    async def _body(self, request: Request) -> bytearray:
        """The body, no larger than is taken. Errors: Refusal, HungUp."""
        body, count = bytearray(), 0
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > DRAINED * self._most:
            raise self._too_large()
        try:
            with anyio.fail_after(self._read_within):
                async for part in request.stream():
                    count += len(part)
                    if count > DRAINED * self._most:
                        break
                    if count <= self._most:
                        body += part
        except TimeoutError:
            text = f"the body did not come within {self._read_within:g} s, {count} bytes came"
            raise Refusal(408, REFUSED, text) from None
        except ClientDisconnect:
            raise HungUp from None
        self._metrics.received(count)
        if count > self._most:
            raise self._too_large()
        return body

    def _too_large(self) -> Refusal:
        return Refusal(
            413, TOO_LARGE, f"the body has more than {self._most} bytes; send smaller images or JPEG (--most-mib)"
        )

    async def _off_loop(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Decoding takes time in which others are answered."""
        if self._decoding is None:
            self._decoding = anyio.CapacityLimiter(DECODING)
        return await to_thread.run_sync(work, *arguments, limiter=self._decoding)

    @staticmethod
    async def _result(request: Request, future: Future) -> Any:
        """What the engine's thread gives; what its client no longer waits for is not begun. Errors: HungUp."""
        result, gone = asyncio.wrap_future(future), asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            raise HungUp
        finally:
            gone.cancel()
            result.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has hung up; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HungUp):
        return Refusal(499, HUNG_UP, "the client hung up")
    if isinstance(error, NotRun):
        return Refusal(409 if error.code == SUPERSEDED else 504 if error.code == LATE else 503, error.code, str(error))
    if isinstance(error, (WireError, InputError)):
        return Refusal(400, REFUSED, str(error))
    if isinstance(error, DecodeError):
        return Refusal(422, NOT_DECODED, str(error))
    if isinstance(error, ModelError):
        return Refusal(500, FAILED, f"inference failed: {error}")
    log.error("a request failed", exc_info=error)
    return Refusal(500, FAILED, f"inference failed: {type(error).__name__}; the server's log says more")


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, media_type="application/json")


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    paths = "GET /act, POST /act, POST /reset, POST /check, GET /health, GET /healthz, GET /metrics"
    text = f"{request.method} {request.url.path[:80]} is not there; there are {paths}"
    return _json({"error": text, "code": REFUSED}, error.status_code, {"connection": "close"})
