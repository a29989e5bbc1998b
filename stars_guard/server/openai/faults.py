"""Every failure as the OpenAI API words it: a status, and an ``error`` object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from stars_guard.errors import (
    ConfigurationError,
    ContextLengthError,
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
        status: status code of the HTTP response.
        message: for whoever wrote the client; never text of a prompt or an answer.
        kind: ``type`` of the error object.
        code: ``code`` of the error object.
        param: the field of the request that is wrong.
        retry_after: seconds after which to try again.
        allow: the methods that the path takes instead.
        outcome: what the request counts as.
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
        """The JSON body of the response."""
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


@contextmanager
def renamed_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Have faults of a translated request name fields as the request itself does.

    Args:
        names: what fields are called there, and what in the request.

    Raises:
        Fault: as inside, or of fields that are malformed, or of a prompt that cannot be served.
    """
    try:
        yield
    except PromptError as error:
        raise _renamed(fault_of(error), names) from error
    except ValidationError as error:
        raise _renamed(malformed_body(error), names) from error
    except Fault as fault:
        raise _renamed(fault, names) from fault


def _renamed(fault: Fault, names: Mapping[str, str]) -> Fault:
    field, _, rest = (fault.param or "").partition(".")
    if field not in names:
        return fault
    param = ".".join([names[field], rest] if rest else [names[field]])
    return replace(fault, param=param, message=re.sub(rf"^{field}\b", names[field], fault.message))


_LONGEST = 1000
"""Characters of a message that are sent."""


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Fault:
    """Fault of a request that is wrong.

    Args:
        message: what is wrong with it.
        param: the field that is.
        code: for programs that read the answer.
    """
    # Names that a client made up may be in both, as long as its whole body.
    return Fault(400, message[:_LONGEST], param=param and param[:_LONGEST], code=code)


def overloaded(message: str, retry_after: int) -> Fault:
    """Fault of a request for which there is no room now; it may come again after so many seconds."""
    return Fault(429, message, "rate_limit_error", "rate_limit_exceeded", retry_after=max(1, retry_after))


_BY_OUTCOME = {
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
_OUTCOME_OF: dict[type[Exception], Outcome] = {
    NoAcceptableSegment: Outcome.EXHAUSTED,
    ScoringError: Outcome.SCORING_ERROR,
    GenerationError: Outcome.GENERATION_ERROR,
    TimeoutError: Outcome.TIMED_OUT,
}
_SOON = 5


def fault_for(outcome: Outcome) -> Fault | None:
    """Fault of a request that was not answered; None for an outcome that is an answer."""
    if outcome not in _BY_OUTCOME:
        return None
    (status, message), (kind, code) = _BY_OUTCOME[outcome]
    return Fault(status, message, kind, code, retry_after=_SOON if status == 503 else None, outcome=outcome)


def fault_of(error: Exception) -> Fault:
    """Fault of any failure. The words of a foreign error, which may quote text, are not passed on."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, ContextLengthError):
        return bad_request(_too_long(error), "messages", "context_length_exceeded")
    if isinstance(error, PromptError):
        return bad_request(str(error), "messages", "invalid_prompt")
    if isinstance(error, ConfigurationError):
        return bad_request(str(error), code="invalid_settings")
    outcome = next(
        (outcome for kind, outcome in _OUTCOME_OF.items() if isinstance(error, kind)), Outcome.INTERNAL_ERROR
    )
    return fault_for(outcome) or Fault(500, "internal error", "server_error")


def _too_long(error: ContextLengthError) -> str:
    """What is wrong, in OpenAI's words, for which clients look that shorten histories."""
    if error.context_window is None:
        return str(error)
    return (
        f"This model's maximum context length is {error.context_window} tokens. However, your messages "
        f"resulted in {error.prompt_tokens} tokens. Please reduce the length of the messages."
    )


class UnreadBody(HTTPException):
    """A body that is not taken. An HTTPException, since body readers let only these through."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.status, fault.message)
        self.fault = fault


_TYPE_TAG = re.compile(r"(str|int|bool|constrained-\w+|list\[.*|dict\[.*|[A-Z]\w*)")
"""What stands in the place of an error for one of several types that a field may have."""


def malformed_request(error: Exception) -> Fault:
    """Fault of a body whose fields are wrong, by the first of them. What was sent is not repeated."""
    problem = cast(RequestValidationError, error).errors()[0]
    return _malformed(problem["loc"][1:], problem["msg"])


def malformed_body(error: ValidationError) -> Fault:
    """Fault of a body whose fields are wrong, by the first of them. What was sent is not repeated."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return _malformed(problem["loc"], problem["msg"])


def _malformed(location: Sequence[int | str], message: str) -> Fault:
    place = [str(part) for part in location]
    while len(place) > 1 and _TYPE_TAG.fullmatch(place[-1]):
        place.pop()
    if not place:
        return bad_request("send a JSON object, with the header Content-Type: application/json")
    param = ".".join(place)
    return bad_request(f"{param}: {message}", param)


def refused_by_framework(route: str, error: Exception) -> Fault:
    """Fault of a method and path (``route``) that are not served, or of a body that cannot be read."""
    if isinstance(error, UnreadBody):
        return error.fault
    if not isinstance(error, HTTPException):
        return fault_of(error)
    if error.status_code in (404, 405):
        return Fault(error.status_code, f"{route} is not served", allow=(error.headers or {}).get("Allow"))
    return Fault(error.status_code, error.detail)
