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
from stars_guard import Channel, GuardedResult, InvalidToolCall, Judged, Piece, Shown, ToolCall
from stars_guard.adapters import GuardedCall, finish_word, guard_summary, openai_tool_call, token_counts

HAS_REFUSAL_BLOCK = "RefusalContentBlock" in core_messages.__all__
"""Whether the installed langchain-core knows refusals as content (from 1.7.5 on)."""

PROVIDER = "stars_guard"

# Text chunks are numbered by langchain-core from 0; blocks of one number are merged, whatever their type.
_FIRST_CALL = 1000


def to_message(result: GuardedResult, call: GuardedCall) -> AIMessage:
    """The whole answer to a call as a message."""
    valid, invalid = calls(result)
    return AIMessage(
        content=_content(result),
        tool_calls=valid,
        invalid_tool_calls=invalid,
        additional_kwargs=_additional(result),
        usage_metadata=usage(result),
        response_metadata=metadata(result, call) | mark(bool(result.forced_text)),
    )


def mark(forced: bool) -> dict[str, Any]:
    """What says in metadata that some of the text is forced. It stays what it is when chunks are added up."""
    return {"forced": True} if forced else {}


class ChunkFold:
    """Turns the events of one answer into message chunks, which add up to :func:`to_message`."""

    def __init__(self) -> None:
        self._calls = 0

    def take(self, event: Judged | Shown) -> AIMessageChunk | None:
        """The chunk for an event, if it shows something."""
        if isinstance(event, Judged):
            return None
        if isinstance(event, Piece):
            return _piece_chunk(event)
        self._calls += 1
        return AIMessageChunk(
            content="",
            tool_call_chunks=[_call_chunk(event.call, _FIRST_CALL + self._calls)],
            response_metadata=mark(event.forced),
        )

    def last(self, result: GuardedResult, call: GuardedCall) -> AIMessageChunk:
        """The chunk that ends the answer: its refusal, if it is one, and all metadata."""
        additional = _additional(result)
        additional.pop("reasoning_content", None)
        return AIMessageChunk(
            content=_refusal_block(result) or "",
            additional_kwargs=additional,
            usage_metadata=usage(result),
            response_metadata=metadata(result, call),
            chunk_position="last",
        )


def _piece_chunk(piece: Piece) -> AIMessageChunk:
    if piece.channel is Channel.REASONING:
        return AIMessageChunk(
            content="",
            additional_kwargs={"reasoning_content": piece.text},
            response_metadata=mark(piece.forced),
        )
    return AIMessageChunk(content=piece.text, response_metadata=mark(piece.forced))


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
    counts = token_counts(result)
    return UsageMetadata(
        input_tokens=counts["prompt_tokens"],
        output_tokens=counts["completion_tokens"],
        total_tokens=counts["total_tokens"],
    )


def metadata(result: GuardedResult, call: GuardedCall) -> dict[str, Any]:
    """Model name, why the answer ended, and under ``stars`` what the guard did."""
    return {
        "model_name": call.model_name,
        "model_provider": PROVIDER,
        "stop_reason": result.stop_reason.value,
        "finish_reason": finish_word(result),
        "stars": guard_summary(result, include_trace=call.include_trace),
    }


def _additional(result: GuardedResult) -> dict[str, Any]:
    additional = {"reasoning_content": result.reasoning} if result.reasoning else {}
    if result.refused and not HAS_REFUSAL_BLOCK:
        additional["refusal"] = result.refusal
    return additional


def _content(result: GuardedResult) -> str | list[str | dict[Any, Any]]:
    block = _refusal_block(result)
    return [result.text, *block] if block else result.text


def _refusal_block(result: GuardedResult) -> list[str | dict[Any, Any]]:
    """What says to programs that the answer ends in a refusal, where langchain-core knows such a block.

    It stands beside the text, which ends in the same words: parsers of text take no notice of the block.
    """
    if not (result.refused and HAS_REFUSAL_BLOCK):
        return []
    return [{"type": "refusal", "refusal": result.refusal}]


def _call_chunk(call: ToolCall | InvalidToolCall, index: int) -> ToolCallChunk:
    if isinstance(call, ToolCall):
        args = openai_tool_call(call)["function"]["arguments"]
    else:
        args = unparsable(call.text)
    return tool_call_chunk(name=call.name, args=args, id=call.id, index=index)
