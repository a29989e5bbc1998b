"""Turns of a conversation and the tool calls in them, between a framework's form and the guard's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from stars_guard.errors import PromptError
from stars_guard.prompts import Message, MessageToolCall

_MERGED = ("system", "user", "assistant")


def merged_turns(messages: Iterable[Message]) -> list[Message]:
    """The conversation with neighbours of one role as one message: strict templates want turns to alternate.

    Messages of tools stay apart, and so do those of roles that templates do not know.
    """
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"] and message["role"] in _MERGED:
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message)
    return turns


def past_tool_call(call_id: str | None, name: str, arguments: Mapping[str, Any] | str) -> MessageToolCall:
    """A call that an earlier turn of the assistant made.

    Args:
        call_id: id by which the tool's result names it.
        name: name of the tool.
        arguments: as an object, or as its JSON text.

    Raises:
        PromptError: the text is not a JSON object.
    """
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    return {"id": call_id or "", "type": "function", "function": {"name": name, "arguments": dict(arguments)}}


def _joined(first: Message, second: Message) -> Message:
    texts = [turn["content"] for turn in (first, second) if turn["content"]]
    joined = Message(role=first["role"], content="\n\n".join(texts))
    if calls := [*first.get("tool_calls", ()), *second.get("tool_calls", ())]:
        joined["tool_calls"] = calls
    return joined


def _parsed(arguments: str) -> dict[str, Any]:
    try:
        parsed = json.loads(arguments or "{}")
    except ValueError as error:
        raise PromptError("the arguments of a tool call are not JSON; pass an object") from error
    if not isinstance(parsed, dict):
        raise PromptError("the arguments of a tool call must be a JSON object")
    return parsed
