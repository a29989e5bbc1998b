"""How a request that gets no answer is told so, in the words of the protocol that its path belongs to."""

from __future__ import annotations

import json

from starlette.types import Scope, Send

from stars_guard.server.anthropic.faults import error_body
from stars_guard.server.openai.answers import Json
from stars_guard.server.openai.faults import Fault

ANTHROPIC = "/v1/messages"
"""Beginning of the paths of Anthropic's API."""


def fault_body(fault: Fault, scope: Scope) -> Json:
    """The JSON body of the response to a request, whose ``scope`` has its path."""
    if scope["path"].startswith(ANTHROPIC):
        exchange = scope.get("state", {}).get("exchange")
        return error_body(fault, exchange.id if exchange else None)
    return fault.body()


async def send_fault(fault: Fault, scope: Scope, send: Send) -> None:
    """Answer a request with its fault."""
    body = json.dumps(fault_body(fault, scope)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
