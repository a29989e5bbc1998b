"""The process: a uvicorn server that takes nothing on once it is told to stop, and ends what it has."""

from __future__ import annotations

import asyncio
import signal
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from stars_guard.errors import ConfigurationError
from stars_guard.server.service import Service


class DrainingServer(uvicorn.Server):
    """Drains at the first SIGTERM or SIGINT, then ends with exit code 0; ends at once at the second."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Note the loop, so that a signal can reach it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain."""
        if self._loop is None or self._service.admission.draining:
            self.force_exit = sig == signal.SIGINT
            self.should_exit = True
            return
        self._service.admission.draining = True
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


def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until a signal ends it.

    Args:
        app: from :func:`stars_guard.server.app.create_app`.
        listener: from :func:`bound`.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        # Longer than clients and load balancers keep theirs, so that none writes into a closed connection.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    DrainingServer(config, app.state.service).run(sockets=[listener])
