"""Request bodies of bounded length, whatever their headers say."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stars_guard.server.faults import Fault

Headers: TypeAlias = list[tuple[bytes, bytes]]


class _TooLong(Exception):  # noqa: N818 - it is caught here
    """More came than is read."""


class BoundedBody:
    """Answers 413 once more than ``most`` bytes of a body were announced or came."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced(scope["headers"]) > self._most:
            await self._refuse(send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, self._bounded(receive), noted)
        except _TooLong:
            if not begun:
                await self._refuse(send)

    def _bounded(self, receive: Receive) -> Receive:
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise _TooLong
            return message

        return bounded

    async def _refuse(self, send: Send) -> None:
        fault = Fault(413, f"the body is longer than {self._most} bytes", code="body_too_large")
        body = json.dumps(fault.body()).encode()
        headers: Headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        start: dict[str, Any] = {"type": "http.response.start", "status": fault.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


def _announced(headers: Headers) -> int:
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    return int(length) if length.isdigit() else 0
