"""Request bodies: of bounded length, whatever their headers say, and JSON to the letter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stars_guard.server.openai.faults import Fault, send_fault

Headers: TypeAlias = list[tuple[bytes, bytes]]

_SPILL = 16 * 2**20
"""Bytes beyond the limit that are still read, and dropped."""


class UnreadBody(HTTPException):
    """A body that is too long or too slow. An HTTPException, since body readers let only these through."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.status, fault.message)
        self.fault = fault


class BoundedBody:
    """Answers 413 once more than ``most`` bytes of a body were announced or came, 408 after ``seconds``."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._too_long = Fault(413, f"the body is longer than {most} bytes", code="body_too_large")
        self._too_slow = Fault(408, f"the body took longer than {seconds:g} seconds", code="body_too_slow")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _announced(scope["headers"]) > self._most:
            if not _asks_first(scope["headers"]):
                await self._spilled(receive)
            await send_fault(self._too_long, send)
        else:
            await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        read, more = 0, True
        until = asyncio.get_running_loop().time() + self._seconds

        async def bounded() -> Message:
            nonlocal read, more
            try:
                async with asyncio.timeout_at(until if more else None):
                    message = await receive()
            except TimeoutError as error:
                raise UnreadBody(self._too_slow) from error
            more = bool(message.get("more_body"))
            read += len(message.get("body", b""))
            if read > self._most:
                await self._spilled(receive)
                raise UnreadBody(self._too_long)
            return message

        return bounded

    async def _spilled(self, receive: Receive) -> None:
        """Read on for a while: closed with bytes unread, the connection is reset, and the answer lost."""
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
    """Whether the client sends the body only once it is told to."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from error


class StrictJsonRoute(APIRoute):
    """Takes JSON only as its standard has it: without NaN, half characters, or nesting without end."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As of any route, with bodies read strictly."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict
