"""Messages, tools and schemas of the OpenAI API, as the guard takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stars_guard.errors import PromptError
from stars_guard.prompts import Message, Prompt, Tools
from stars_guard.server.openai.faults import bad_request
from stars_guard.server.openai.wire import ChatRequest, Turn
from stars_guard.text.content import (
    UnreadableBlockError,
    block_calls,
    content_text,
    linked_turns,
    past_tool_call,
)


def prompt_of(turns: Sequence[Turn], tools: Tools | None = None) -> Prompt:
    """The prompt that a conversation is.

    Raises:
        Fault: naming the message that cannot be read.
    """
    called: dict[str, str] = {}
    messages = []
    for place, turn in enumerate(turns):
        messages.append(_message(turn, place, called))
        called |= {call["id"]: call["function"]["name"] for call in messages[-1].get("tool_calls", ())}
    try:
        return Prompt.of(linked_turns(messages), tools)
    except PromptError as error:
        raise bad_request(str(error), "messages") from error


def argument_characters(turns: Sequence[Turn]) -> int:
    """Length of the arguments of all calls in a conversation, which are JSON within JSON."""
    called = [call for turn in turns for call in _called(turn)]
    return sum(len(arguments) for _, _, arguments in called if isinstance(arguments, str))


def _message(turn: Turn, place: int, called: dict[str, str]) -> Message:
    """A turn as chat templates take it."""
    role = "system" if turn.role == "developer" else turn.role
    past = role == "assistant"
    message = Message(role=role, content=_text(turn.content, place, past=past))
    calls = [past_tool_call(*call) for call in _called(turn)] or (block_calls(turn.content) if past else [])
    if calls:
        message["tool_calls"] = calls
    if turn.tool_call_id:
        message["tool_call_id"] = turn.tool_call_id
    # A tool's result also has the name of its call: some templates show it.
    name = turn.name or (called.get(turn.tool_call_id) if turn.tool_call_id else None)
    if name:
        message["name"] = name
    return message


def _text(content: object, place: int, *, past: bool) -> str:
    try:
        return content_text(content, past=past)
    except UnreadableBlockError as error:
        other = "nothing else" if error.kind is None else f"not {error.kind!r}"
        raise bad_request(f"messages[{place}]: only text can be read here, {other}", "messages") from error


def _called(turn: Turn) -> list[tuple[Any, Any, Any]]:
    """Id, name and arguments of the calls of a past turn; what is no call, or has no name, is left out."""
    made = []
    for call in turn.tool_calls or ():
        function = (call.get("function") or call.get("custom")) if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and function.get("name"):
            made.append((call.get("id"), function["name"], function.get("arguments", function.get("input"))))
    return made


def tools_of(body: ChatRequest) -> Tools | None:
    """The tools of a request.

    Raises:
        Fault: a tool, or the choice of one, cannot be served.
    """
    if not body.tools:
        if body.tool_choice not in (None, "auto", "none"):
            raise bad_request("tool_choice asks for a tool, but there are no tools", "tool_choice")
        return None
    for place, tool in enumerate(body.tools):
        _check_tool(tool, place)
    try:
        return Tools(tuple(body.tools), _choice(body.tool_choice), body.parallel_tool_calls is not False)
    except PromptError as error:
        raise bad_request(f"tools: {error}", "tools") from error


def _check_tool(tool: dict[str, Any], place: int) -> None:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, dict):
        message = f'tools[{place}]: only tools like {{"type": "function", "function": ...}} are served'
        raise bad_request(message, "tools")
    parameters = function.get("parameters") or {}
    properties = (parameters.get("properties") or {}) if isinstance(parameters, dict) else None
    if not isinstance(properties, dict) or not all(
        isinstance(schema, dict) for schema in properties.values()
    ):
        raise bad_request(f"tools[{place}].function.parameters is no JSON schema of an object", "tools")


def _choice(choice: str | dict[str, Any] | None) -> str:
    """The tool choice in the words of :class:`stars_guard.types.Tools`."""
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise bad_request("tool_choice is auto, none, required, or names a function", "tool_choice")
        return "any" if choice == "required" else choice
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name in ("auto", "none", "any"):
        raise bad_request(
            'tool_choice names a function as {"type": "function", "function": ...}', "tool_choice"
        )
    return name


def schema_of(wanted: dict[str, Any] | None) -> str | None:
    """The JSON schema that the answer must satisfy, if any.

    Raises:
        Fault: the format is not served.
    """
    kind = (wanted or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        # A schema beside it is what llama.cpp, Together and others take; OpenAI knows none.
        schema = (wanted or {}).get("schema", {"type": "object"})
    else:
        named = (wanted or {}).get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
    if kind not in ("json_object", "json_schema") or not isinstance(schema, dict):
        message = "response_format is text, json_object, or json_schema with a schema"
        raise bad_request(message, "response_format")
    return json.dumps(schema)
