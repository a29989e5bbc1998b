"""From LangChain messages to the conversation that chat templates take."""

from __future__ import annotations

from collections.abc import Sequence

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
from stars_guard.adapters import block_calls, content_text, merged_turns, past_tool_call


def conversation(messages: Sequence[BaseMessage]) -> list[Message]:
    """The messages as chat templates take them.

    Contents become plain text, and neighbours of one role become one message, since strict templates want
    turns to alternate; tool results stay apart, and get the name of the tool that was called. What an
    assistant said in an earlier turn is taken as far as it makes sense, whichever provider it was.

    Raises:
        PromptError: what a user or a tool says is other than text, or a message is of an unknown kind.
    """
    names: dict[str, str] = {}
    return merged_turns(_turn(message, number, names) for number, message in enumerate(messages))


def _turn(message: BaseMessage, number: int, names: dict[str, str]) -> Message:
    past = isinstance(message, AIMessage)
    text = content_text(message.content, past=past, where=f"message {number}")
    turn = Message(role=_role(message, number), content=text)
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


def _add_calls(turn: Message, message: AIMessage, names: dict[str, str]) -> None:
    calls = [past_tool_call(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    if not (calls or message.invalid_tool_calls):
        calls = block_calls(message.content)
    if calls:
        turn["tool_calls"] = calls
        names.update({call["id"]: call["function"]["name"] for call in calls})
    # A call that could not be made is still something the assistant wrote.
    wrote = [turn["content"], *(call["args"] or "" for call in message.invalid_tool_calls)]
    turn["content"] = "\n".join(text for text in wrote if text)
