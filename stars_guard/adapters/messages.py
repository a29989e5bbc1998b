"""Turns of a conversation and the tool calls in them, between a framework's form and the guard's."""

from __future__ import annotations

from collections.abc import Iterable

from stars_guard.prompts import Message
from stars_guard.text.content import linked_turns

_MERGED = ("system", "user", "assistant")


def merged_turns(messages: Iterable[Message]) -> list[Message]:
    """The conversation with neighbours of one role as one message: strict templates want turns to alternate.

    Messages of tools stay apart, and so do those of roles that templates do not know. A call without an id
    gets one, and a result without one is that of the first call that has no result yet.
    """
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"] and message["role"] in _MERGED:
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message)
    return linked_turns(turns)


def _joined(first: Message, second: Message) -> Message:
    texts = [turn["content"] for turn in (first, second) if turn["content"]]
    joined = Message(role=first["role"], content="\n\n".join(texts))
    if calls := [*first.get("tool_calls", ()), *second.get("tool_calls", ())]:
        joined["tool_calls"] = calls
    return joined
