"""Requests of Anthropic's API as they come over the wire, with ours beside: ``stars`` and sampling fields."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from stars_guard.server.openai.wire import AnswerRequest, Count, StopText, Wire


class BlockTurn(Wire):
    """One message: a text, or blocks of text, tool calls and their results."""

    role: Literal["user", "assistant"]
    content: str | list[dict[str, Any]]


class OutputConfig(Wire):
    """What the answer must be."""

    format: dict[str, Any] | None = None
    """``json_schema`` with ``schema``."""
    effort: str | None = None


class CountRequest(AnswerRequest):
    """``POST /v1/messages/count_tokens``: a conversation."""

    messages: list[BlockTurn] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountRequest):
    """``POST /v1/messages``: a conversation to be answered."""

    max_tokens: Count
    stop_sequences: list[StopText] | None = None


class TokenCount(BaseModel):
    """How long a conversation is."""

    input_tokens: int
    """In tokens, chat template included."""
