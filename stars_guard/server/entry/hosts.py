"""The names that the server goes by, and the web pages whose scripts may ask it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, TypeAlias

from pydantic import AfterValidator
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from stars_guard.server.entry.failures import send_fault
from stars_guard.server.openai.faults import Fault

_NAME = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[?[0-9a-f:.]+\]?")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_PORT = re.compile(r":\d*\Z")
_PROBED = ("/health/", "/metrics")
"""Beginnings of paths that probes and scrapers ask for, which know a server by its address."""
_PREFLIGHT_SECONDS = 600


def _name(value: str) -> str:
    if not _NAME.fullmatch(value.lower()):
        raise ValueError("a host is a name or an address without a port, '*.' and a domain, or '*' for all")
    return _bare(value)


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value.lower()):
        raise ValueError("an origin is scheme://host or scheme://host:port without a path, or '*' for all")
    return value.lower()


HostName: TypeAlias = Annotated[str, AfterValidator(_name)]
"""Name that a server goes by; ``*.`` in front stands for any names below it, ``*`` alone for every name."""
Origin: TypeAlias = Annotated[str, AfterValidator(_origin)]
"""Scheme, host and port of web pages; ``*`` alone for every page."""


class KnownHosts:
    """Answers 421 to a request for another host.

    A page that has its own name point here could otherwise have its readers' browsers ask a server that only
    they can reach.

    Args:
        app: the application behind it.
        hosts: names that the server goes by.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[HostName, ...]) -> None:
        self._app = app
        self._names = frozenset(hosts)
        self._domains = tuple(host[1:] for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that is meant for this server."""
        if scope["type"] != "http" or self._is_meant(scope):
            await self._app(scope, receive, send)
        else:
            await send_fault(
                Fault(421, "this is not the host you asked for", code="unknown_host"), scope, send
            )

    def _is_meant(self, scope: Scope) -> bool:
        host = _bare(_PORT.sub("", Headers(scope=scope).get("host", "")))
        if host in self._names or host.endswith(self._domains):
            return True
        return scope["path"].startswith(_PROBED) and _is_address(host)


def reachable_as(app: ASGIApp, hosts: tuple[HostName, ...], origins: tuple[Origin, ...]) -> ASGIApp:
    """The application, behind what checks the names and pages that it is asked by.

    Args:
        app: the application.
        hosts: names that it goes by.
        origins: pages whose scripts may ask; empty: none but those of the server itself.
    """
    if origins:
        # A preflight carries no key, so this stands before what asks for one.
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=("x-request-id", "request-id", "x-stars-max-tokens", "retry-after"),
            max_age=_PREFLIGHT_SECONDS,
        )
    return app if "*" in hosts else KnownHosts(app, hosts)


def _bare(host: str) -> str:
    return host.lower().removesuffix(".").removeprefix("[").removesuffix("]")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
