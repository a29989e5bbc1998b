"""From LangChain messages to the conversation that chat templates take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from stars_guard import Message, PromptError
from stars_guard.adapters import merged_turns, past_tool_call

_TEXT = {"text": "text", "text-plain": "text", "refusal": "refusal"}
_MEDIA = frozenset({"image", "image_url", "audio", "file", "video", "non_standard"})
# Calls stand in the message's own tool_calls, and templates leave reasoning of earlier turns out.
_SILENT = frozenset(
    {
        "function_call",
        "invalid_tool_call",
        "reasoning",
        "redacted_thinking",
        "thinking",
        "tool_call",
        "tool_call_chunk",
        "tool_use",
    }
)


def conversation(messages: Sequence[BaseMessage]) -> list[Message]:
    """The messages as chat templates take them.

    Contents become plain text, and neighbours of one role become one message, since strict templates want
    turns to alternate; tool results stay apart, and get the name of the tool that was called.

    Raises:
        PromptError: a message has content other than text, or is of an unknown kind.
    """
    names: dict[str, str] = {}
    return merged_turns(_turn(message, number, names) for number, message in enumerate(messages))


def _turn(message: BaseMessage, number: int, names: dict[str, str]) -> Message:
    turn = Message(role=_role(message, number), content=_text(message, number))
    if isinstance(message, AIMessage):
        _add_calls(turn, message, names)
    elif isinstance(message, ToolMessage):
        turn["tool_call_id"] = message.tool_call_id
        if name := message.name or names.get(message.tool_call_id):
            turn["name"] = name
    elif message.name:
        turn["name"] = message.name
    return turn


def _role(message: BaseMessage, number: int) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    roles = {
        SystemMessage: "system",
        HumanMessage: "user",
        AIMessage: "assistant",
        ToolMessage: "tool",
        FunctionMessage: "tool",
    }
    for kind, role in roles.items():
        if isinstance(message, kind):
            return role
    raise PromptError(f"message {number} is a {type(message).__name__}, which is no turn of a conversation")


def _text(message: BaseMessage, number: int) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(_block_text(block, number) for block in message.content)


def _block_text(block: str | dict[str, Any], number: int) -> str:
    if isinstance(block, str):
        return block
    kind = block.get("type", "text")
    if kind in _SILENT:
        return ""
    text = block.get(_TEXT.get(kind, ""))
    if not isinstance(text, str):
        shown = f"of type {kind!r}" if kind in _MEDIA else "that is no text"
        raise PromptError(f"message {number} holds a block {shown}; this model reads text only")
    return text


def _add_calls(turn: Message, message: AIMessage, names: dict[str, str]) -> None:
    calls = [past_tool_call(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    if calls:
        turn["tool_calls"] = calls
        names.update({call["id"]: call["function"]["name"] for call in calls})
    # A call that could not be made is still something the assistant wrote.
    wrote = [turn["content"], *(call["args"] or "" for call in message.invalid_tool_calls)]
    turn["content"] = "\n".join(text for text in wrote if text)
