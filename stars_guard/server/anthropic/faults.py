"""Every failure as Anthropic's API words it."""

from __future__ import annotations

from pydantic import BaseModel

from stars_guard.server.openai.answers import Json
from stars_guard.server.openai.faults import Fault

NO_THREADS = "thread_unsupported_request"
"""Code by which Anthropic's clients know that they must send whole conversations, and do."""
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}


class MessagesErrorBody(BaseModel):
    """What is wrong; ``param`` and ``code`` are those of the OpenAI API, beside Anthropic's words."""

    type: str
    message: str
    param: str | None
    code: str | None
    details: Json | None = None
    """Where a client can do without what it asked for: that code again, and what is not served."""


class MessagesError(BaseModel):
    """Every failure."""

    type: str
    error: MessagesErrorBody
    request_id: str | None


def error_body(fault: Fault, request_id: str | None = None) -> Json:
    """The JSON body of a response, or of an event of a stream, that says what is wrong.

    Args:
        fault: what is wrong.
        request_id: id of the exchange, where there is one.
    """
    # Clients that shorten histories look for these words.
    long = "prompt is too long: " if fault.code == "context_length_exceeded" else ""
    message = f"{long}{fault.message}"
    error: Json = {"type": _kind(fault), "message": message, "param": fault.param, "code": fault.code}
    if fault.code == NO_THREADS:
        error["details"] = {"error_code": fault.code, "unsupported": [fault.param]}
    return {"type": "error", "error": error, "request_id": request_id}


def _kind(fault: Fault) -> str:
    if fault.code in ("draining", "too_many_connections"):
        return "overloaded_error"
    return _KINDS.get(fault.status, "invalid_request_error" if fault.status < 500 else "api_error")
