"""Requests of the Responses API as they come over the wire, with ``stars`` and sampling fields beside."""

from __future__ import annotations

from typing import Any

from stars_guard.server.openai.wire import AnswerRequest, Count, Wire


class TextFormat(Wire):
    """What the text of the answer must be."""

    format: dict[str, Any] | None = None
    """``text``, ``json_object``, or ``json_schema`` with ``name`` and ``schema``."""
    verbosity: str | None = None


class Reasoning(Wire):
    """How much the model shall reason; it cannot be told here."""

    effort: str | None = None


class ResponseRequest(AnswerRequest):
    """``POST /v1/responses``."""

    input: str | list[dict[str, Any]]
    """One user message, or items: messages, calls and their results, reasoning."""
    instructions: str | None = None
    max_output_tokens: Count | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextFormat | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, Any] | None = None
    include: list[str] | None = None
