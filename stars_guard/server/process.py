"""The process: a uvicorn server that takes nothing on once it is told to stop, and ends what it has."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from stars_guard.errors import ConfigurationError
from stars_guard.server.config import ServerConfig
from stars_guard.server.entry.connections import Connections
from stars_guard.server.entry.protocol import BoundedProtocol
from stars_guard.server.service import Service
from stars_guard.server.telemetry.closing import Closing, ClosingLog

_RESERVED_FILES = 256
"""Files left for models, engines and logs, and for connections that are accepted before others are closed."""
_ACCEPTED_AT_ONCE = 32
_BACKLOG = 2048
_ENDING = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_ENDING, signal.SIGHUP) if hasattr(signal, "SIGHUP") else _ENDING


class DrainingServer(uvicorn.Server):
    """Drains at the first SIGTERM, SIGINT or SIGHUP, then ends with exit code 0; the second SIGTERM or SIGINT
    ends the process at once, with 128 and the number of the signal, as a shell names it.

    A configuration is not read anew at SIGHUP: whoever starts the process starts another.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the loop, so that a signal can reach it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or ():
            # asyncio accepts as many at once as may wait, and closes none in between. Few shall be accepted
            # at once, so that there are files for them, and many may wait.
            listener.listen(_BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals from now on, also while the process ends, when threads may still keep it."""
        if threading.current_thread() is threading.main_thread():
            for number in filter(_is_handled, _SIGNALS):
                signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or end at once."""
        stopping = self.should_exit or self._service.admission.draining
        if stopping and sig in _ENDING:
            # Threads of a model that hangs would keep the process for as long as they hang.
            os._exit(128 + sig)
        self._service.admission.draining = True
        if self._loop is None:
            self.should_exit = True
        elif not stopping:
            self._loop.call_soon_threadsafe(self._begin_to_drain)

    def _begin_to_drain(self) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._service.config.limits.drain_seconds):
                await self._service.admission.drained()
        except TimeoutError:
            self._service.admission.turn_away()
            await self._service.cancel_all()
        self.should_exit = True


def _is_handled(number: int) -> bool:
    """Whether a signal stops the server: a hangup does not where it was started with nohup."""
    return number in _ENDING or signal.getsignal(number) is not signal.SIG_IGN


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; nobody can connect before it is served on.

    Args:
        host: a name or an address.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"--host {host}: {error.strerror}") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"--host {host} --port {port}: {error.strerror}; choose another, or 0 for a free port"
        ) from error
    return listener


def check_reach(listener: socket.socket, settings: ServerConfig, *, anonymous: bool) -> None:
    """Refuse to be asked by whoever reaches an address, unless that is meant.

    Args:
        listener: from :func:`bound`.
        settings: says whether there are keys.
        anonymous: whether requests without a key are meant to be served.

    Raises:
        ConfigurationError: others than this machine reach the address, and need no key.
    """
    address = listener.getsockname()[0]
    if settings.keys or anonymous or ip_address(address.partition("%")[0]).is_loopback:
        return
    raise ConfigurationError(
        f"--host {address} is reached by others, and no key is asked for: add keys to the configuration "
        "(stars-guard config hash-key), listen on 127.0.0.1, or say --allow-anonymous if that is meant"
    )


def served_with(app: FastAPI) -> uvicorn.Config:
    """The settings of uvicorn for an application.

    Args:
        app: from :func:`stars_guard.server.app.create_app`.
    """
    service: Service = app.state.service
    limits, metrics, log = service.config.limits, service.telemetry.metrics, ClosingLog()

    def closed(reason: Closing) -> None:
        metrics.closed(reason)
        log(reason)

    connections = Connections(limits, room_for_connections(limits.connections), closed)
    metrics.watch_connections(lambda: len(connections), connections.most)
    protocol = partial(BoundedProtocol, connections, limits.body_seconds)
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], protocol),
        ws="none",
        access_log=False,
        log_config=None,
        log_level="error",
        backlog=_ACCEPTED_AT_ONCE,
        # Longer than clients and load balancers keep theirs, so that none writes into a closed connection.
        timeout_keep_alive=cast(int, limits.idle_seconds),  # it may be a part of a second
        timeout_graceful_shutdown=10,
        server_header=False,
    )


def room_for_connections(wanted: int) -> int:
    """Most connections that the process can hold; it is allowed more files first, as far as it may be.

    Args:
        wanted: number of connections that it should hold.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + _RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - _RESERVED_FILES, soft // 2)
    return wanted


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until a signal ends it.

    Args:
        app: from :func:`stars_guard.server.app.create_app`.
        listener: from :func:`bound`.
    """
    DrainingServer(served_with(app), app.state.service).run(sockets=[listener])
