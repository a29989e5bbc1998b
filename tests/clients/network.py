"""The watch over the clients: a connection to elsewhere is refused, and noted."""

from __future__ import annotations

import sys

elsewhere: list[str] = []
"""Where a client wanted to connect to but this machine, since the last test."""


def _stay_here(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" else arguments[0]  # type: ignore[index]
        if host not in ("127.0.0.1", b"127.0.0.1"):
            elsewhere.append(str(host))
            raise ConnectionRefusedError(f"a client wanted to reach {host}")


sys.addaudithook(_stay_here)
