"""From results of the guard to responses and stream chunks of the OpenAI API.

A refusal is said where every client looks: its text is the content, ``finish_reason`` is ``content_filter``,
and the objects ``guardrails`` (promptfoo's form) and ``content_filter_results`` (Azure's) say it in data.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from pydantic_core import from_json

from stars_guard.result import GuardedResult, openai_tool_call
from stars_guard.server.telemetry.exchange import finish_reason
from stars_guard.server.telemetry.trace_store import trace_size, written_traces

Json: TypeAlias = dict[str, Any]

_NUMBER = 20
"""Characters of a reward."""


def guardrails(results: Sequence[GuardedResult]) -> Json:
    """Whether the guard refused an answer of a response, in promptfoo's form."""
    flagged = any(result.refused for result in results)
    reason = "no acceptable segment was found" if flagged else None
    return {"flagged": flagged, "flaggedInput": False, "flaggedOutput": flagged, "reason": reason}


def stars(result: GuardedResult) -> Json:
    """What the guard did, the seed that repeats it, and the calls that could not be made.

    Advice is for the operator, and says where the floor is: log, span and metrics have it, responses do not.
    """
    invalid = [
        {"name": refused.name, "text": refused.text, "error": refused.error}
        for refused in result.invalid_tool_calls
    ]
    return {
        **{name: value for name, value in result.summary.items() if name != "advice"},
        **({"invalid_tool_calls": invalid} if invalid else {}),
        "run_id": result.trace.run_id,
        "seed": result.trace.sampling.seed,
        "stop_reason": result.stop_reason.value,
        "proposed_tokens": result.usage.proposed_tokens,
    }


def filtered(result: GuardedResult) -> Json:
    """A choice's content filter result, as Azure words it."""
    return {"stars_guard": {"filtered": result.refused}}


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """Longest answer to a request, in tokens."""

    requested: int
    """What it asked for, or what the server gives where it did not ask."""
    granted: int
    """What it gets: less where it may have less, or where less fits the model."""

    @property
    def is_shortened(self) -> bool:
        """Whether it gets less."""
        return self.granted < self.requested


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What the whole response, or every chunk of it, begins with; and what they say of the guard."""

    id: str
    model: str
    length: AnswerLength
    trace_bytes: int = 0
    """Most bytes of the trace of an answer that the response holds; 0: it holds none."""
    created: int = field(default_factory=lambda: int(time.time()))

    def size(self, results: Sequence[GuardedResult]) -> int:
        """Bytes of what is said of these answers, roughly."""
        texts = sum(len(result.text) + len(result.reasoning) for result in results)
        traces = [result.trace for result in results]
        numbers = sum(_NUMBER * len(trace.segments) for trace in traces)
        return texts + numbers + (trace_size(traces) if self.trace_bytes else 0)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response, besides those of every one."""
        return {"x-stars-max-tokens": str(self.length.granted)} if self.length.is_shortened else {}

    def verdict(self, results: Sequence[GuardedResult]) -> Json:
        """What the guard did, of each answer and of all together."""
        length = {"max_tokens": asdict(self.length)} if self.length.is_shortened else {}
        decisions = [{**stars(result), **length, **self._traced(result)} for result in results]
        return {"guardrails": guardrails(results), "stars": decisions}

    def _traced(self, result: GuardedResult) -> Json:
        if not self.trace_bytes:
            return {}
        written = written_traces([result.trace], self.trace_bytes)
        if written is None:
            return {"trace": None, "trace_left_out": f"longer than the {self.trace_bytes} bytes allowed"}
        return {"trace": from_json(written)[0]}


def chat_choice(result: GuardedResult, index: int) -> Json:
    """A choice of a chat response."""
    message: Json = {"role": "assistant", "content": result.text, "refusal": None}
    if result.reasoning:
        message["reasoning_content"] = result.reasoning
    if result.tool_calls:
        message["tool_calls"] = [openai_tool_call(call) for call in result.tool_calls]
        message["content"] = result.text or None
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(result),
        "content_filter_results": filtered(result),
    }


def text_choice(result: GuardedResult, index: int) -> Json:
    """A choice of a text completion."""
    return {
        "index": index,
        "text": result.text,
        "logprobs": None,
        "finish_reason": finish_reason(result),
        "content_filter_results": filtered(result),
    }
