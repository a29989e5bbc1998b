"""Items, tools and formats of the Responses API, as a chat request has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.server.openai.answers import Json
from stars_guard.server.openai.faults import bad_request, renamed_fields
from stars_guard.server.openai.unserved import refuse_unserved
from stars_guard.server.openai.wire import ChatRequest
from stars_guard.server.responses.wire import ResponseRequest

CHAT_FIELDS = {
    "messages": "input",
    "response_format": "text.format",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}
"""Fields of a chat request, and what they are called here."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "store": (None, False),
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "prompt": (None,),
    "truncation": (None, "disabled"),
    "max_tool_calls": (None,),
    "moderation": (None,),
    "context_management": (None, []),
    "n": (None, 1),
    **dict.fromkeys(CHAT_FIELDS, (None,)),
}
"""Fields that are not served here, and the values with which they ask for nothing."""
_LOGPROBS = "message.output_text.logprobs"
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of items that are a call, and the field of its arguments."""
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_UNTOLD = ("reasoning", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
"""Kinds of items about a server's own work, left out like those of its own tools."""
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""Kinds of content that are text, and where it is in them."""


def chat_of_items(body: ResponseRequest) -> ChatRequest:
    """The chat request that asks for the same.

    Raises:
        Fault: naming the field that is wrong, or is not served.
    """
    extra = dict(body.model_extra or {})
    refuse_unserved(extra, _NEUTRAL)
    _refuse_inside(body)
    shared = {name: getattr(body, name) for name in ChatRequest.model_fields if name in body.model_fields_set}
    fields = {
        **{name: value for name, value in extra.items() if name not in ("stream_options", *_NEUTRAL)},
        **shared,
        "messages": _turns(body),
        "max_tokens": body.max_output_tokens,
        "tools": [_tool(tool, place) for place, tool in enumerate(body.tools or ())] or None,
        "tool_choice": _choice(body.tool_choice),
        "response_format": _format(body),
    }
    with renamed_fields(CHAT_FIELDS):
        return ChatRequest.model_validate(fields)


def _refuse_inside(body: ResponseRequest) -> None:
    """Refuse what is not served inside of fields that are."""
    if body.reasoning:
        refuse_unserved({"reasoning.effort": body.reasoning.effort}, {"reasoning.effort": (None,)})
    if body.text:
        refuse_unserved({"text.verbosity": body.text.verbosity}, {"text.verbosity": (None, "medium")})
    if _LOGPROBS in (body.include or ()):
        raise bad_request(f"include: {_LOGPROBS} is not served; leave it out", "include")


def _turns(body: ResponseRequest) -> list[Json]:
    given = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
    turns: list[Json] = [{"role": "system", "content": body.instructions}] if body.instructions else []
    for place, item in enumerate(given):
        _add(turns, item, place)
    return turns


def _add(turns: list[Json], item: Mapping[str, Any], place: int) -> None:
    """Add an item to a conversation; what the model wrote between two turns of others is one turn."""
    kind = str(item.get("type", "message"))  # whatever came, it is looked up below
    if kind == "message":
        past = item.get("role") == "assistant"
        content = item.get("content")
        turns.append({"role": item.get("role"), "content": content if past else _text(content, place)})
    elif kind in _CALLS:
        if not turns or turns[-1]["role"] != "assistant":
            turns.append({"role": "assistant", "content": ""})
        turns[-1].setdefault("tool_calls", []).append(_call(item, _CALLS[kind]))
    elif kind in _OUTPUTS:
        output = _text(item.get("output"), place)
        turns.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
    elif kind not in _UNTOLD and not kind.endswith(("_call", "_call_output")):
        raise bad_request(f"input[{place}]: items of type {kind[:50]!r} are not served", "input")


def _call(item: Mapping[str, Any], arguments: str) -> Json:
    function = {"name": item.get("name"), "arguments": item.get(arguments)}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _text(content: Any, place: int) -> Any:
    """Content as a chat message has it; what is malformed stays, to be refused as that of a message is."""
    if not isinstance(content, list):
        return content
    return [_part(part, place) for part in content]


def _part(part: Any, place: int) -> Json:
    kind = str(part.get("type") if isinstance(part, dict) else None)
    if kind not in _TEXTS or not isinstance(part.get(_TEXTS[kind]), str):
        raise bad_request(f"input[{place}]: only text can be read here, not {kind[:50]!r}", "input")
    return {"type": "text", "text": part[_TEXTS[kind]]}


def _tool(tool: Mapping[str, Any], place: int) -> Json:
    if tool.get("type") != "function":
        kind = str(tool.get("type"))[:50]
        message = f"tools[{place}]: tools of type {kind!r} are not served, only functions"
        raise bad_request(message, "tools", "unsupported_parameter")
    kept = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in kept if name in tool}}


def _choice(choice: str | Mapping[str, Any] | None) -> Any:
    if choice is None or isinstance(choice, str):
        return choice
    if choice.get("type") != "function":
        kind = str(choice.get("type"))[:50]
        message = (
            f"tool_choice of type {kind!r} is not served; it is auto, none, required, or names a function"
        )
        raise bad_request(message, "tool_choice", "unsupported_parameter")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _format(body: ResponseRequest) -> Any:
    wanted = body.text.format if body.text else None
    if wanted is None or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {key: wanted.get(key) for key in ("name", "schema")}}
