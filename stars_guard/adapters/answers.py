"""What a guarded answer is to a framework, as plain data: why it ended, what it cost, what was decided."""

from __future__ import annotations

from typing import Any

from stars_guard.loop.events import Judged
from stars_guard.result import GuardedResult


def guard_summary(result: GuardedResult, *, include_trace: bool = False) -> dict[str, Any]:
    """What the guard did, ready for JSON: numbers, and on request the whole trace."""
    summary = {**result.summary, "proposed_tokens": result.usage.proposed_tokens}
    return {**summary, "trace": trace_payload(result)} if include_trace else summary


def decision_payload(judged: Judged) -> dict[str, Any]:
    """A decision, ready for JSON: segment, verdict, and the attempt without its text, rejected or not."""
    return {
        "segment": judged.segment,
        "verdict": judged.verdict.value,
        "chosen": judged.chosen,
        "attempt": judged.attempt.model_dump(mode="json", exclude={"text"}),
    }


def trace_payload(result: GuardedResult) -> dict[str, Any]:
    """The whole trace, ready for JSON.

    Text of rejected candidates is in it only if ``GuardConfig.keep_rejected_text`` says so.
    """
    return result.trace.model_dump(mode="json")
