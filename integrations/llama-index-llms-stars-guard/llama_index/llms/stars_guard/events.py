"""Instrumentation events: every decision of the guard, and the trace of every answer."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.base import BaseEvent

from stars_guard import GuardedResult, Judged
from stars_guard.adapters import decision_payload, trace_payload

dispatcher = get_dispatcher(__name__)


class SegmentJudgedEvent(BaseEvent):
    """A candidate for the next segment was judged. Numbers only: no text, rejected or accepted."""

    segment: int
    """Segment number, from 0."""
    attempt: int
    """Attempt number within the segment, from 0."""
    channel: str
    """``answer``, ``reasoning`` or ``tool``."""
    tokens: int
    """Length of the candidate, in tokens."""
    reward: float
    threshold: float
    """What the reward was held against, in the same unit."""
    probability: float
    """Acceptance probability, in [0, 1]."""
    accepted: bool
    """Whether the rule accepted it."""
    verdict: str
    """What became of it: ``open``, ``accepted``, ``forced``, ``declined``, ``refused`` or ``exhausted``."""
    chosen: int | None
    """Number of the attempt that became part of the answer, once one has."""

    @classmethod
    def class_name(cls) -> str:
        """Name in exported events."""
        return "StarsGuardSegmentJudgedEvent"


class GuardedAnswerEvent(BaseEvent):
    """A guarded answer is over; its trace is that of :class:`stars_guard.Trace`, as plain data.

    It holds text of rejected candidates only when ``GuardConfig.keep_rejected_text`` asks for that.
    """

    stop_reason: str
    """Why the answer ended, as in :class:`stars_guard.StopReason`."""
    trace: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Name in exported events."""
        return "StarsGuardGuardedAnswerEvent"


def announce_decision(judged: Judged, span_id: str | None) -> None:
    """Dispatch a :class:`SegmentJudgedEvent`."""
    decision = decision_payload(judged)
    attempt = decision.pop("attempt")
    numbers = {name: attempt[name] for name in attempt.keys() & SegmentJudgedEvent.model_fields.keys()}
    event = SegmentJudgedEvent(span_id=span_id, attempt=attempt["index"], **decision, **numbers)
    dispatcher.event(event)


def announce_answer(result: GuardedResult, span_id: str | None) -> None:
    """Dispatch a :class:`GuardedAnswerEvent`."""
    trace = trace_payload(result)
    dispatcher.event(GuardedAnswerEvent(span_id=span_id, stop_reason=result.stop_reason, trace=trace))
