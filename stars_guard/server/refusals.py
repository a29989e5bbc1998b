"""What the web framework refuses by itself, in the words of the API."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from stars_guard.server.entry.body import UnreadBody
from stars_guard.server.openai.faults import Fault, fault_of, refused

_TYPE_TAG = re.compile(r"(str|int|bool|constrained-\w+|list\[.*|dict\[.*|[A-Z]\w*)")
"""What stands in the place of an error for one of several types that a field may have."""


def malformed_request(error: Exception) -> Fault:
    """A body whose fields are wrong, by the first of them. What was sent is not repeated."""
    problems: Sequence[Any] = error.errors() if isinstance(error, RequestValidationError) else ()
    problem = problems[0]
    place = [str(part) for part in problem["loc"][1:]]
    while len(place) > 1 and _TYPE_TAG.fullmatch(place[-1]):
        place.pop()
    if not place:
        return refused("send a JSON object, with the header Content-Type: application/json")
    param = ".".join(place)
    return refused(f"{param}: {problem['msg']}", param)


def refused_by_framework(asked: str, error: Exception) -> Fault:
    """A path or a method that is not served, or a body that cannot be read; ``asked`` is the two."""
    if isinstance(error, UnreadBody):
        return error.fault
    if not isinstance(error, HTTPException):
        return fault_of(error)
    if error.status_code in (404, 405):
        return Fault(error.status_code, f"{asked} is not served", allow=(error.headers or {}).get("Allow"))
    return Fault(error.status_code, error.detail)
