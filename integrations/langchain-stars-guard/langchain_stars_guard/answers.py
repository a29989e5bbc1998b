"""From guarded answers to LangChain messages, whole or chunk by chunk."""

from __future__ import annotations

import json
from typing import Any

import langchain_core.messages as core_messages
from langchain_core.messages import AIMessage, AIMessageChunk, ToolCallChunk
from langchain_core.messages import InvalidToolCall as LCInvalidToolCall
from langchain_core.messages import ToolCall as LCToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.utils.json import parse_partial_json
from stars_guard import GuardedResult, StopReason
from stars_guard.algorithm.trace import Verdict
from stars_guard.loop.events import Judged
from stars_guard.text.transcript import Piece, Shown
from stars_guard.types import Channel, InvalidToolCall, ToolCall

HAS_REFUSAL_BLOCK = "RefusalContentBlock" in core_messages.__all__
"""Whether the installed langchain-core knows refusals as content (from 1.7.5 on)."""

PROVIDER = "stars_guard"

_FINISH_REASONS = {
    StopReason.EOS: "stop",
    StopReason.STOP: "stop",
    StopReason.REFUSED: "content_filter",
    StopReason.GENERATION_ERROR: "error",
    StopReason.SCORING_ERROR: "error",
}
# Text chunks are numbered by langchain-core from 0; blocks of one number are merged, whatever their type.
_FIRST_CALL = 1000


def to_message(result: GuardedResult, model_name: str, *, include_trace: bool) -> AIMessage:
    """The whole answer as a message."""
    valid, invalid = calls(result)
    return AIMessage(
        content=_content(result),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        additional_kwargs=_additional(result),
        usage_metadata=usage(result),
        response_metadata=metadata(result, model_name, include_trace=include_trace),
    )


class ChunkFold:
    """Turns the events of one answer into message chunks, which add up to :func:`to_message`."""

    def __init__(self) -> None:
        self._calls = 0
        self._refused = False
        self._held = ""

    def take(self, event: Judged | Shown) -> AIMessageChunk | None:
        """The chunk for an event, if it shows something."""
        if isinstance(event, Judged):
            self._refused |= event.verdict is Verdict.REFUSED
            return None
        if isinstance(event, Piece):
            return self._piece(event)
        self._calls += 1
        return AIMessageChunk(
            content="", tool_call_chunks=[_call_chunk(event.call, _FIRST_CALL + self._calls)]
        )

    def last(self, result: GuardedResult, model_name: str, *, include_trace: bool) -> AIMessageChunk:
        """The chunk that ends the answer: its refusal, if it is one, and all metadata."""
        additional = _additional(result)
        additional.pop("reasoning_content", None)
        return AIMessageChunk(
            content=_with_refusal(self._held, result) if self._held else "",
            additional_kwargs=additional,
            usage_metadata=usage(result),
            response_metadata=metadata(result, model_name, include_trace=include_trace),
            chunk_position="last",
        )

    def _piece(self, piece: Piece) -> AIMessageChunk | None:
        if piece.channel is Channel.REASONING:
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": piece.text})
        if self._refused and HAS_REFUSAL_BLOCK:
            # What follows the verdict ends in the refusal text, which becomes a block of its own.
            self._held += piece.text
            return None
        return AIMessageChunk(content=piece.text)


def calls(result: GuardedResult) -> tuple[list[LCToolCall], list[LCInvalidToolCall]]:
    """The tool calls of an answer, and those that cannot be made."""
    valid = [tool_call(name=call.name, args=call.arguments, id=call.id) for call in result.tool_calls]
    invalid = [
        invalid_tool_call(name=call.name, args=unparsable(call.text), id=call.id, error=call.error)
        for call in result.invalid_tool_calls
    ]
    return valid, invalid


def unparsable(text: str) -> str:
    """The text of an invalid call, such that LangChain will not repair it into a valid one.

    When chunks are added up, langchain-core completes unfinished JSON: a call that was cut off would run.
    """
    try:
        repaired = parse_partial_json(text)
    except json.JSONDecodeError:
        repaired = None
    return f"invalid: {text}" if isinstance(repaired, dict) or not text else text


def usage(result: GuardedResult) -> UsageMetadata:
    """Tokens of the prompt and of the answer; what was drawn and thrown away is in the metadata."""
    read, kept = result.usage.prompt_tokens, result.usage.kept_tokens
    return UsageMetadata(input_tokens=read, output_tokens=kept, total_tokens=read + kept)


def metadata(result: GuardedResult, model_name: str, *, include_trace: bool) -> dict[str, Any]:
    """Model name, why the answer ended, and under ``stars`` what the guard did."""
    stars = {**result.summary, "proposed_tokens": result.usage.proposed_tokens}
    if include_trace:
        stars["trace"] = result.trace.model_dump(mode="json")
    return {
        "model_name": model_name,
        "model_provider": PROVIDER,
        "stop_reason": result.stop_reason.value,
        "finish_reason": finish_reason(result),
        "stars": stars,
    }


def finish_reason(result: GuardedResult) -> str:
    """Why the answer ended, in the words that other chat models use."""
    if result.tool_calls and result.stop_reason in (StopReason.EOS, StopReason.STOP):
        return "tool_calls"
    return _FINISH_REASONS.get(result.stop_reason, "length")


def _additional(result: GuardedResult) -> dict[str, Any]:
    additional = {"reasoning_content": result.reasoning} if result.reasoning else {}
    if result.refused and not HAS_REFUSAL_BLOCK:
        additional["refusal"] = result.trace.config.refusal_text
    return additional


def _content(result: GuardedResult) -> str | list[str | dict[Any, Any]]:
    return _with_refusal(result.text, result) if result.refused and HAS_REFUSAL_BLOCK else result.text


def _with_refusal(text: str, result: GuardedResult) -> list[str | dict[Any, Any]]:
    """``text``, which ends in the refusal text, with that as a block of its own."""
    refusal = result.trace.config.refusal_text
    answer = text.removesuffix(refusal).removesuffix("\n\n")
    return [*([answer] if answer else []), {"type": "refusal", "refusal": refusal}]


def _call_chunk(call: ToolCall | InvalidToolCall, index: int) -> ToolCallChunk:
    if isinstance(call, ToolCall):
        args = json.dumps(call.arguments, ensure_ascii=False)
    else:
        args = unparsable(call.text)
    return tool_call_chunk(name=call.name, args=args, id=call.id, index=index)
