"""Clients of the server, most of them without a network: they read, or go away at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from tests.faults.requests import RequestPlan
from tests.faults.responses import Response

SLOWLY = 0.002
"""Seconds between two reads of a slow client."""
SECONDS = 30.0
"""In which a server ends every exchange; only a hang reaches them."""


async def ask_app(app: Callable[..., Coroutine[Any, Any, None]], plan: RequestPlan) -> Response:
    """Exchange a request for a response, without a network.

    Args:
        app: serves.
        plan: of the request.
    """
    client = _Client(plan)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": plan.method,
        "path": plan.path,
        "raw_path": plan.path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"server"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("server", 80),
    }
    if plan.client == "leaves in time":
        asyncio.get_running_loop().call_later(plan.stream.seconds, client.gone.set)
    try:
        async with asyncio.timeout(SECONDS):
            await app(scope, client.receive, client.send)
    except OSError as error:  # a TimeoutError is one, too
        client.response.error = None if plan.client == "breaks" else error
    return client.response


class _Client:
    """The two ends of an exchange, as a server offers them to an application."""

    def __init__(self, plan: RequestPlan) -> None:
        self._plan = plan
        half = len(plan.body) // 2
        self._parts = [plan.body[:half], plan.body[half:]]
        self._sends = 0
        self.gone = asyncio.Event()
        self.response = Response()

    async def receive(self) -> dict[str, Any]:
        if self._plan.client == "leaves in the body" and len(self._parts) == 1:
            self.gone.set()
        if self._parts and not self.gone.is_set():
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self._sends += 1
        client, is_late = self._plan.client, self._sends > self._plan.reads
        if client == "breaks" and is_late:
            raise OSError("the connection is gone")
        if client == "leaves reading" and is_late:
            self.gone.set()
        if client == "reads slowly":
            await asyncio.sleep(SLOWLY)
        self.response.status = message.get("status", self.response.status)
        self.response.body += message.get("body", b"")


async def ask_socket(address: tuple[str, int], plan: RequestPlan) -> Response:
    """Exchange a request for a response on a connection of its own; leaving resets it.

    Args:
        address: of the server.
        plan: of the request.
    """
    response = Response()
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(plan.stream.seconds if plan.client == "leaves in time" else SECONDS):
            await _exchange(reader, writer, plan, response)
    except TimeoutError as error:
        response.error = None if plan.client == "leaves in time" else error
    except OSError:
        pass  # the server may end a connection on which nonsense came
    finally:
        await _end(writer, reset=plan.client not in ("reads", "reads slowly"))
    return response


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plan: RequestPlan, response: Response
) -> None:
    head = f"{plan.method} {plan.path} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(plan.body)}\r\nConnection: close\r\n\r\n"
    body = plan.body[: len(plan.body) // 2] if plan.client == "leaves in the body" else plan.body
    writer.write(head.encode() + body)
    await writer.drain()
    if plan.client == "leaves in the body":
        return
    received, reads = b"", 0
    while part := await reader.read(64 if plan.client == "reads slowly" else 4096):
        received, reads = received + part, reads + 1
        if plan.client in ("leaves reading", "breaks") and reads > plan.reads:
            break
        if plan.client == "reads slowly" and reads < 20:
            await asyncio.sleep(SLOWLY)
    _read(received, response)


def _read(received: bytes, response: Response) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return
    response.status = int(head.split(b" ")[1])
    response.body = _joined(body) if b"transfer-encoding: chunked" in head.lower() else body


def _joined(chunked: bytes) -> bytes:
    """The whole chunks of a body."""
    body = b""
    while True:
        size, _, rest = chunked.partition(b"\r\n")
        length = int(size, 16) if size else 0
        if not length or len(rest) < length:
            return body
        body, chunked = body + rest[:length], rest[length + 2 :]


async def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        at_once = struct.pack("ii", 1, 0)  # lingers for no time: what is not sent is dropped, and RST follows
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
