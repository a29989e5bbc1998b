"""One request to the server and what became of it: the stuff of metrics, spans, logs and stored traces."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from stars_guard.loop.events import Judged, Request
from stars_guard.result import GuardedResult, finish_word
from stars_guard.text.transcript import Shown

ChoiceEvent: TypeAlias = Judged | Shown | GuardedResult
"""What happens in a choice; its result comes last."""


def finish_reason(result: GuardedResult) -> str:
    """Why an answer ended, in the words of the OpenAI API; any other end is a ``length``."""
    word = finish_word(result)
    return "length" if word == "error" else word


def totals(results: Sequence[GuardedResult]) -> dict[str, int]:
    """What the guard did and spent in all answers of a request together, by name."""
    numbers = [{**dict(result.usage), **result.summary} for result in results]
    names = ("proposed_tokens", "reward_calls", "segments", "attempts", "forced", "escalated", "withdrawn")
    counts = {name: sum(number[name] for number in numbers) for name in names}
    return {**counts, "advised": sum("advice" in number for number in numbers)}


class Outcome(StrEnum):
    """What became of a request at the server. Outage, refusal and exhaustion are three different things."""

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
    """An *exchange* is one HTTP request and its response, as observers see them.

    It is filled in as the request goes on. Times are ``time.monotonic()`` values.
    """

    id: str
    """Unique; also the id of the response and of the stored trace."""
    endpoint: str
    """``chat.completions``, ``completions`` or ``guard.score``."""
    model: str = ""
    """The name under which the server serves its model."""
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
    """One for each choice, in the order in which they ended."""
    counted: dict[str, int] | None = None
    """:func:`totals` of all results, once there are all."""

    @property
    def totals(self) -> dict[str, int]:
        """What the guard did and spent in the results that there are."""
        return totals(self.results) if self.counted is None else self.counted


class Observer(Protocol):
    """Is told of every request. Called on the event loop, so it must not block; it must not raise."""

    def began(self, exchange: Exchange) -> None:
        """The request was received."""

    def admitted(self, exchange: Exchange) -> None:
        """The request left the queue, and is being served."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """A candidate was judged.

        Args:
            exchange: the request that it was drawn for.
            choice: which of the request's answers, from 0.
            judged: the candidate and the decision.
        """

    def ended(self, exchange: Exchange) -> None:
        """The request is over; called once, whatever happened."""
