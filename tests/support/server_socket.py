"""A server of a test on a socket of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.server.app import create_app
from stars_guard.server.config import ServerConfig
from stars_guard.server.process import served_with
from stars_guard.server.service import Service
from tests.support.server_client import CHAT, Watcher, quiet


@contextmanager
def listening(
    llm: StarsGuardedLLM, config: ServerConfig | None = None
) -> Iterator[tuple[Any, Service, Watcher]]:
    """The application on a socket of its own: its address, its service, and what is told of requests."""
    watcher = Watcher()
    app = create_app(llm, config or quiet(), [watcher])
    with socket.create_server(("127.0.0.1", 0)) as own:
        server = uvicorn.Server(served_with(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        try:
            yield own.getsockname(), app.state.service, watcher
        finally:
            server.should_exit = True
            thread.join(30)


def wait_until(condition: Callable[[], object]) -> None:
    """Until it holds."""
    for _ in range(10_000):
        if condition():
            return
        time.sleep(0.002)
    raise AssertionError("it never came")


def sent(address: Any, body: bytes, holds: int | None = None) -> socket.socket:
    """A connection on which a request was sent; with ``holds`` it takes about so many unread bytes."""
    connection = socket.socket(socket.AF_INET)
    if holds is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds)
    connection.settimeout(30)
    connection.connect(address)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + body)
    return connection
