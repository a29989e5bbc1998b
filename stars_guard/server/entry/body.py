"""Request bodies: of bounded length, whatever their headers say, and read only where there is room."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, get_type_hints

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stars_guard.server.entry.admission import Admission
from stars_guard.server.entry.failures import send_fault
from stars_guard.server.entry.workers import Workers
from stars_guard.server.openai.faults import Fault, UnreadBody, bad_request, malformed_body
from stars_guard.server.openai.limits import SizeLimits
from stars_guard.settings import Settings

Headers: TypeAlias = list[tuple[bytes, bytes]]

_SPILL = 16 * 2**20
"""Bytes beyond the limit that are still read, and dropped."""


class BodyLimits(Settings):
    """How long a request's body may be, and how long it may take."""

    max_body_bytes: int = Field(default=4 * 2**20, ge=1)
    """Longest request body; a longer one is refused with 413, and not read to its end."""
    body_seconds: float = Field(default=60.0, gt=0)
    """Most seconds until a request's body has come; a slower one is refused with 408."""
    body_start_seconds: float = Field(default=10.0, gt=0)
    """Most seconds until the first of it has come."""


class BoundedBody:
    """Answers 413 once a body is announced as too long or comes too long, 408 when it comes too slowly."""

    def __init__(self, app: ASGIApp, limits: BodyLimits) -> None:
        self._app = app
        self._most, self._seconds = most, seconds = limits.max_body_bytes, limits.body_seconds
        self._start_seconds = limits.body_start_seconds
        self._too_long = Fault(413, f"the body is longer than {most} bytes", code="body_too_large")
        self._too_slow = Fault(408, f"the body took longer than {seconds:g} seconds", code="body_too_slow")
        late = f"the body did not begin within {limits.body_start_seconds:g} seconds"
        self._too_late = Fault(408, late, code="body_too_slow")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, its body bounded."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _announced(scope["headers"]) > self._most:
            if not _asks_first(scope["headers"]):
                await self._spilled(receive)
            await send_fault(self._too_long, scope, send)
        else:
            await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        read, more = 0, True
        begun = asyncio.get_running_loop().time()
        end, start = begun + self._seconds, begun + self._start_seconds
        until, fault = (start, self._too_late) if start < end else (end, self._too_slow)

        async def bounded() -> Message:
            nonlocal read, more, until, fault
            try:
                async with asyncio.timeout_at(until if more else None):
                    message = await receive()
            except TimeoutError as error:
                raise UnreadBody(fault) from error
            more, until, fault = bool(message.get("more_body")), end, self._too_slow
            read += len(message.get("body", b""))
            if read > self._most:
                await self._spilled(receive)
                raise UnreadBody(self._too_long)
            return message

        return bounded

    async def _spilled(self, receive: Receive) -> None:
        """Read on for a while, and drop it."""
        # A connection that is closed with bytes unread is reset, and the answer lost.
        left, more = _SPILL, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = bool(message.get("more_body"))


def _announced(headers: Headers) -> int:
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    return int(length) if length.isdigit() else 0


def _asks_first(headers: Headers) -> bool:
    """Whether the client waits for ``100 Continue`` before it sends the body."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


class BodyReader:
    """Reads JSON to the letter: no NaN or endless nesting; and counts what it reads.

    Half a surrogate pair, which a cut text holds for ever, is U+FFFD.

    Args:
        admission: asked for room before anything is done.
        workers: do what is large.
        sizes: how many of anything a request may hold.
    """

    def __init__(self, admission: Admission, workers: Workers, sizes: SizeLimits) -> None:
        self._admission = admission
        self._workers = workers
        self._sizes = sizes

    async def read(self, request: Request, model: type[BaseModel]) -> BaseModel:
        """The fields of a request; from here to its end it has a place among those that run and wait.

        Args:
            request: with a body that has not been read.
            model: what its fields are.

        Raises:
            UnreadBody: there is no room, or the body is malformed.
        """
        body = await request.body()
        state = request.scope["state"]
        state["size"] = len(body)
        try:
            state["held"].enter_context(self._admission.entered(state["exchange"].key))
            return await self._workers.run(len(body), self._parsed, body, model)
        except Fault as fault:
            raise UnreadBody(fault) from fault

    def _parsed(self, body: bytes, model: type[BaseModel]) -> BaseModel:
        self._sizes.check_values(body)
        try:
            fields = from_json(_whole(body), allow_inf_nan=False)
        except ValueError as error:
            raise bad_request(f"the body is not JSON: {error}") from error
        self._sizes.check(fields)
        try:
            return model.model_validate(fields)
        except ValidationError as error:
            raise malformed_body(error) from error


_HEX = rb"[0-9a-fA-F]"
_HALVES = re.compile(
    rb"\\(?:[^u]|u[dD][89abAB]X{2}\\u[dD][c-fC-F]X{2}|u([dD][89a-fA-F]X{2}))".replace(b"X", _HEX)
)
"""Escapes in JSON; the group is there where one is half a character."""


def _whole(body: bytes) -> bytes:
    """JSON without half characters."""
    if not re.search(rb"\\u[dD][89a-fA-F]", body):
        return body
    return _HALVES.sub(lambda escape: escape[0] if escape[1] is None else rb"\ufffd", body)


def reading_route(reader: BodyReader) -> type[APIRoute]:
    """Routes whose endpoints have their parameter ``body`` read by ``reader``."""

    class ReadRequest(Request):
        model: type[BaseModel]

        async def json(self) -> Any:
            # The framework takes the fields as they are, since they are validated.
            return await reader.read(self, self.model)

    class ReadingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()
            model = get_type_hints(self.endpoint).get("body", BaseModel)

            async def handled(request: Request) -> Response:
                reading = ReadRequest(request.scope, request.receive)
                reading.model = model
                return await handler(reading)

            return handled

    return ReadingRoute
