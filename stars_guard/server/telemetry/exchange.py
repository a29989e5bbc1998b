"""One request to the server and what became of it: the stuff of metrics, spans, logs and stored traces."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from stars_guard.loop.events import Judged, Request
from stars_guard.result import GuardedResult


class Outcome(StrEnum):
    """What became of a request. An outage, a refusal and exhaustion are three different things."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """No acceptable segment: the answer ended with the refusal text."""
    EXHAUSTED = "exhausted"
    """No acceptable segment, and policy ``raise``."""
    SCORING_ERROR = "scoring_error"
    GENERATION_ERROR = "generation_error"
    TIMED_OUT = "timed_out"
    """The deadline, or another bound of the budget, ended it."""
    CANCELLED = "cancelled"
    """The client went away."""
    REJECTED = "rejected"
    """Never begun: malformed, not authorised, too large, or the queue was full."""
    INTERNAL_ERROR = "internal_error"


@dataclass(slots=True, eq=False)
class Exchange:
    """One request, filled in as it goes on. Times are ``time.monotonic()`` values."""

    id: str
    """Unique; also the id of the response and of the stored trace."""
    endpoint: str
    """``chat.completions``, ``completions`` or ``guard.score``."""
    model: str = ""
    """As the server names it."""
    key: str = ""
    """Name of the API key, never the key itself; empty without keys."""
    stream: bool = False
    shadow: bool = False
    """Whether the guard only watched."""
    headers: dict[str, str] = field(default_factory=dict)
    """``traceparent`` and ``tracestate`` of the request, where they were sent."""
    received: float = field(default_factory=time.monotonic)
    admitted: float | None = None
    """When it left the queue."""
    delivered: float | None = None
    """When the first text was handed to the client."""
    ended: float | None = None
    status: int = 0
    """HTTP status of the response."""
    outcome: Outcome | None = None
    error: Exception | None = None
    requests: list[Request] = field(default_factory=list)
    """What the guard was asked, one for each choice, as if it were in force; it holds text of users."""
    results: list[GuardedResult] = field(default_factory=list)
    """One for each choice."""


class Observer(Protocol):
    """Is told of every request. Called on the event loop, so it must not block; it must not raise."""

    def began(self, exchange: Exchange) -> None:
        """The request was received."""
        ...

    def admitted(self, exchange: Exchange) -> None:
        """It left the queue, and is being served."""
        ...

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """A candidate of one of its choices was judged."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """It is over; called once, whatever happened."""
        ...
