"""Every failure as the OpenAI API words it: a status, and an ``error`` object."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Send

from stars_guard.errors import (
    ConfigurationError,
    GenerationError,
    NoAcceptableSegment,
    PromptError,
    ScoringError,
)
from stars_guard.server.telemetry.exchange import Outcome


@dataclass(eq=False)
class Fault(Exception):  # noqa: N818 - the protocol calls it an error, and so does its JSON
    """A request that gets no answer.

    Attributes:
        status: of the HTTP response.
        message: for whoever wrote the client; never text of a prompt or an answer.
        kind: ``type`` of the error object.
        code: its ``code``.
        param: the field of the request that is wrong.
        retry_after: seconds after which to try again.
        allow: the methods that the path takes instead.
        outcome: what it counts as.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after: int | None = None
    allow: str | None = None
    outcome: Outcome = field(default=Outcome.REJECTED)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        headers = {"Retry-After": self.retry_after, "Allow": self.allow}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in (408, 413):
            headers["Connection"] = "close"  # what was not read yet is never read
        return {name: str(value) for name, value in headers.items() if value is not None}


def refused(message: str, param: str | None = None, code: str | None = None) -> Fault:
    """A request that is wrong."""
    return Fault(400, message, param=param, code=code)


def overloaded(message: str, retry_after: int) -> Fault:
    """No room now."""
    return Fault(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=max(1, retry_after))


_OF_OUTCOME = {
    Outcome.EXHAUSTED: (
        (422, "no acceptable segment was found; nothing after the accepted text was sent"),
        ("guard_error", "no_acceptable_segment"),
    ),
    Outcome.SCORING_ERROR: (
        (503, "the reward model cannot judge now, so nothing is passed"),
        ("guard_error", "scoring_error"),
    ),
    Outcome.GENERATION_ERROR: ((502, "the language model failed"), ("upstream_error", "generation_error")),
    Outcome.TIMED_OUT: (
        (504, "the time or the budget ran out before any text was accepted"),
        ("guard_error", "deadline_exceeded"),
    ),
    Outcome.CANCELLED: ((503, "the server is going down"), ("server_error", "draining")),
    Outcome.INTERNAL_ERROR: ((500, "internal error"), ("server_error", "internal_error")),
}
_ERRORS: dict[type[Exception], Outcome] = {
    NoAcceptableSegment: Outcome.EXHAUSTED,
    ScoringError: Outcome.SCORING_ERROR,
    GenerationError: Outcome.GENERATION_ERROR,
    TimeoutError: Outcome.TIMED_OUT,
}
_SOON = 5


def fault_for(outcome: Outcome) -> Fault | None:
    """What a request is told that was not answered; None where it was."""
    if outcome not in _OF_OUTCOME:
        return None
    (status, message), (kind, code) = _OF_OUTCOME[outcome]
    return Fault(status, message, kind, code, retry_after=_SOON if status == 503 else None, outcome=outcome)


def fault_of(error: Exception) -> Fault:
    """What a failure of the guard is to the client. The words of a foreign error are not passed on."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, PromptError):
        return refused(str(error), "messages", "invalid_prompt")
    if isinstance(error, ConfigurationError):
        return refused(str(error), code="invalid_settings")
    outcome = next((one for kind, one in _ERRORS.items() if isinstance(error, kind)), Outcome.INTERNAL_ERROR)
    return fault_for(outcome) or Fault(500, "internal error", "server_error")


async def send_fault(fault: Fault, send: Send) -> None:
    """Answer with a failure."""
    body = json.dumps(fault.body()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
