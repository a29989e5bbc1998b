"""The way in: every request gets an id and an end, and none goes on without a valid key."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stars_guard.errors import kind_and_places
from stars_guard.server.entry.failures import ANTHROPIC, send_fault
from stars_guard.server.entry.keys import Keys
from stars_guard.server.openai.faults import Fault, fault_of
from stars_guard.server.telemetry.exchange import Exchange, Observer, Outcome

LITELLM = "/beta/litellm_basic_guardrail_api"
"""Path of LiteLLM's generic guardrail API."""
log = logging.getLogger("stars_guard.server")

_ENDPOINTS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "messages.count_tokens",
    "/v1/moderations": "moderations",
    LITELLM: "guardrail",
    "/v1/guard/score": "guard.score",
    "/v1/models": "models",
    "/v1/traces": "traces",
}


_KEPT = ("/v1/", "/beta/")
"""Beginnings of the paths that the gate stands before."""


class Gate:
    """Lets requests to ``/v1`` and ``/beta`` in, and tells an observer when each begins and ends, once.

    Args:
        app: the application behind it.
        keys: who may ask.
        observer: told of every request.
    """

    def __init__(self, app: ASGIApp, keys: Keys, observer: Observer) -> None:
        self._app = app
        self._keys = keys
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, from its beginning to its end."""
        if scope["type"] != "http" or not scope["path"].startswith(_KEPT):
            await self._app(scope, receive, send)
            return
        exchange = _exchange(scope)
        scope.setdefault("state", {})["exchange"] = exchange
        self._observer.began(exchange)
        try:
            await self._serve(exchange, scope, receive, _noting(exchange, scope["path"], send))
        except asyncio.CancelledError:
            exchange.outcome = Outcome.CANCELLED
            raise
        finally:
            self._end(exchange)

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            key = self._keys.owner(Headers(scope=scope))
            exchange.key = key.name if key else ""
            scope["state"]["key"] = key
            with self._keys.counted(key), ExitStack() as held:
                scope["state"]["held"] = held  # what lasts from the reading of the body to the end
                await self._app(scope, receive, send)
        except Fault as fault:
            await send_fault(fault, scope, send)
            exchange.outcome, exchange.error = fault.outcome, fault
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            exchange.outcome, exchange.error = Outcome.INTERNAL_ERROR, error
            # Its words may quote text, so only where it happened is logged.
            log.error("request %s: internal error: %s", exchange.id, kind_and_places(error))
            if not exchange.status:
                await send_fault(fault_of(error), scope, send)

    def _end(self, exchange: Exchange) -> None:
        exchange.ended = time.monotonic()
        if exchange.outcome is None:
            exchange.outcome = Outcome.REJECTED if exchange.status >= 400 else Outcome.ANSWERED
        self._observer.ended(exchange)


def _exchange(scope: Scope) -> Exchange:
    headers = Headers(scope=scope)
    kept = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    path = scope["path"]
    # A path below an endpoint, such as that of one trace, counts as the endpoint.
    endpoint = _ENDPOINTS.get(path) or _ENDPOINTS.get(path[: path.find("/", 4)], "other")
    return Exchange(uuid.uuid4().hex, endpoint, headers=kept)


def _noting(exchange: Exchange, path: str, send: Send) -> Send:
    """A ``send`` that notes the status and gives the client the request's id."""
    names = (b"x-request-id", b"request-id") if path.startswith(ANTHROPIC) else (b"x-request-id",)
    ids = [(name, exchange.id.encode()) for name in names]

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *ids]
        await send(message)

    return noted
