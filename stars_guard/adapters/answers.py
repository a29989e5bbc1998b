"""What a guarded answer is to a framework, as plain data: why it ended, what it cost, what was decided."""

from __future__ import annotations

from typing import Any

from stars_guard.loop.events import Judged
from stars_guard.result import GuardedResult
from stars_guard.types import StopReason

_FINISH_WORDS = {
    StopReason.EOS: "stop",
    StopReason.STOP: "stop",
    StopReason.REFUSED: "content_filter",
    StopReason.GENERATION_ERROR: "error",
    StopReason.SCORING_ERROR: "error",
}


def finish_word(result: GuardedResult) -> str:
    """Why the answer ended, in OpenAI's words: stop, tool_calls, length, content_filter or error."""
    if result.tool_calls and result.stop_reason in (StopReason.EOS, StopReason.STOP):
        return "tool_calls"
    return _FINISH_WORDS.get(result.stop_reason, "length")


def token_counts(result: GuardedResult) -> dict[str, int]:
    """Tokens of the prompt and of the answer, by OpenAI's names; drawn but rejected ones are not counted."""
    read, kept = result.usage.prompt_tokens, result.usage.kept_tokens
    return {"prompt_tokens": read, "completion_tokens": kept, "total_tokens": read + kept}


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
