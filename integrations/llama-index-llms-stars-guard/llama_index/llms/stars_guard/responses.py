"""From the guard's results and stream events to LlamaIndex's responses. Raw data is plain: it serialises."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from stars_guard import Called, Channel, GuardedResult, InvalidToolCall, Piece, ToolCall
from stars_guard.adapters import openai_tool_call, token_counts, trace_payload

Response_co = TypeVar("Response_co", covariant=True)


class Form(Protocol[Response_co]):
    """How one kind of endpoint answers: one chunk per event, then the end."""

    def chunk(self, event: Piece | Called) -> Response_co | None:
        """What the event shows; None when this kind of endpoint has no place for it."""

    def end(self, result: GuardedResult, *, include_trace: bool) -> Response_co:
        """The whole answer, with what it cost."""


class ChatForm:
    """Chat responses: each chunk holds the whole message so far, and ``delta`` what is new of its text."""

    def __init__(self) -> None:
        self._text = ""
        self._reasoning = ""
        self._calls: list[ToolCall | InvalidToolCall] = []

    def chunk(self, event: Piece | Called) -> ChatResponse:
        """The message so far."""
        new = {Channel.ANSWER: "", Channel.REASONING: ""}
        if isinstance(event, Called):
            self._calls.append(event.call)
        else:
            new[event.channel] = event.text
        self._text += new[Channel.ANSWER]
        self._reasoning += new[Channel.REASONING]
        thinking = {"thinking_delta": new[Channel.REASONING]} if new[Channel.REASONING] else {}
        return ChatResponse(
            message=self._message(),
            delta=new[Channel.ANSWER],
            additional_kwargs=thinking | mark(event.forced),
        )

    def end(self, result: GuardedResult, *, include_trace: bool) -> ChatResponse:
        """The last chunk, with what the whole answer cost; nothing in it is new."""
        response = chat_response(result, include_trace=include_trace)
        response.delta = ""
        return response

    def _message(self) -> ChatMessage:
        return _message(self._text, self._reasoning, self._calls)


class CompletionForm:
    """Completions: each chunk holds the whole text so far. Reasoning has no place in them."""

    def __init__(self) -> None:
        self._text = ""

    def chunk(self, event: Piece | Called) -> CompletionResponse | None:
        """The text so far."""
        if isinstance(event, Called) or event.channel is not Channel.ANSWER:
            return None
        self._text += event.text
        return CompletionResponse(text=self._text, delta=event.text, additional_kwargs=mark(event.forced))

    def end(self, result: GuardedResult, *, include_trace: bool) -> CompletionResponse:
        """The last chunk, with what the whole answer cost; nothing in it is new."""
        response = completion_response(result, include_trace=include_trace)
        response.delta = ""
        return response


def chat_response(result: GuardedResult, *, include_trace: bool) -> ChatResponse:
    """A finished answer as a chat response."""
    calls: list[ToolCall | InvalidToolCall] = [*result.tool_calls, *result.invalid_tool_calls]
    return ChatResponse(
        message=_message(result.text, result.reasoning, calls),
        raw=_raw(result, include_trace),
        additional_kwargs=token_counts(result) | mark(bool(result.forced_text)),
    )


def completion_response(result: GuardedResult, *, include_trace: bool) -> CompletionResponse:
    """A finished answer as a completion."""
    return CompletionResponse(
        text=result.text,
        raw=_raw(result, include_trace),
        additional_kwargs=token_counts(result) | mark(bool(result.forced_text.answer)),
    )


def mark(forced: bool) -> dict[str, Any]:
    """What says in ``additional_kwargs`` that what is new (of a whole answer: any of it) was forced."""
    return {"forced": True} if forced else {}


def malformed_calls(message: ChatMessage) -> list[dict[str, Any]]:
    """The calls of a message that cannot be made: ``id``, ``name``, ``text`` and ``error`` of each."""
    return list(message.additional_kwargs.get("invalid_tool_calls", []))


def _message(text: str, reasoning: str, calls: list[ToolCall | InvalidToolCall]) -> ChatMessage:
    """Thinking, then text, then calls. Malformed calls are no blocks, so that nothing can execute them."""
    valid = [call for call in calls if isinstance(call, ToolCall)]
    invalid = [asdict(call) for call in calls if isinstance(call, InvalidToolCall)]
    blocks: list[ContentBlock] = [ThinkingBlock(content=reasoning)] if reasoning else []
    if text or not valid:
        blocks.append(TextBlock(text=text))
    blocks += [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.arguments) for call in valid
    ]
    # The form in which chat engines and streamed programs look for calls.
    extra: dict[str, Any] = {"tool_calls": [openai_tool_call(call) for call in valid]} if valid else {}
    if invalid:
        extra["invalid_tool_calls"] = invalid
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def _raw(result: GuardedResult, include_trace: bool) -> dict[str, Any]:
    trace = result.trace
    raw: dict[str, Any] = {
        "run_id": trace.run_id,
        "model": trace.model,
        "stop_reason": result.stop_reason.value,
        "usage": {**result.usage.model_dump(mode="json"), **token_counts(result)},
        "stars": result.summary,
    }
    return {**raw, "trace": trace_payload(result)} if include_trace else raw
