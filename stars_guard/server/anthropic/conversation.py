"""Messages, tools and formats of Anthropic's API, as a chat request has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stars_guard.server.anthropic.faults import NO_THREADS
from stars_guard.server.anthropic.wire import BlockTurn, CountRequest
from stars_guard.server.openai.answers import Json
from stars_guard.server.openai.faults import bad_request, renamed_fields
from stars_guard.server.openai.unserved import refuse_unserved
from stars_guard.server.openai.wire import ChatRequest
from stars_guard.text.content import UnreadableBlockError, content_text

CHAT_FIELDS = {"stop": "stop_sequences", "response_format": "output_config.format"}
"""Fields of a chat request, and what they are called here."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "container": (None,),
    "mcp_servers": (None, []),
    "context_management": (None,),
    "max_completion_tokens": (None,),
    "parallel_tool_calls": (None,),
    "n": (None, 1),
    **dict.fromkeys(CHAT_FIELDS, (None,)),
}
"""Fields that are not served here, and the values with which they ask for nothing."""
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}
_UNTHINKING = ("disabled", "adaptive")
"""Kinds of thinking that leave it to the model."""


def chat_of_blocks(body: CountRequest) -> ChatRequest:
    """The chat request that asks for the same.

    Raises:
        Fault: naming the field that is wrong, or is not served.
    """
    extra = dict(body.model_extra or {})
    if extra.get("thread") is not None:
        raise bad_request("no conversation is kept here: send all of it and no thread", "thread", NO_THREADS)
    refuse_unserved({**extra, "stop": body.stop}, _NEUTRAL)
    _refuse_inside(body)
    choice = body.tool_choice or {}
    shared = {name: getattr(body, name) for name in ChatRequest.model_fields if name in body.model_fields_set}
    fields = {
        **{name: value for name, value in extra.items() if name not in ("stream_options", *_NEUTRAL)},
        **shared,
        "messages": _turns(body),
        "stop": getattr(body, "stop_sequences", None) or None,
        "tools": [_tool(tool, place) for place, tool in enumerate(body.tools or ())] or None,
        "tool_choice": _choice(choice) if choice else None,
        "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") is True else None,
        "response_format": _format(body),
    }
    with renamed_fields(CHAT_FIELDS):
        return ChatRequest.model_validate(fields)


def _refuse_inside(body: CountRequest) -> None:
    """Refuse what is not served inside of fields that are."""
    kind = (body.thinking or {}).get("type", "adaptive")
    if kind not in _UNTHINKING:
        raise bad_request(
            "thinking is the model's own affair here; leave it out", "thinking", "unsupported_parameter"
        )
    effort = body.output_config.effort if body.output_config else None
    refuse_unserved({"output_config.effort": effort}, {"output_config.effort": (None,)})
    if body.messages[-1].role == "assistant":
        raise bad_request(
            "messages: an answer that is begun is not continued here; end with the user", "messages"
        )


def _turns(body: CountRequest) -> list[Json]:
    system = _text(body.system, "system") if body.system else ""
    turns: list[Json] = [{"role": "system", "content": system}] if system else []
    for place, turn in enumerate(body.messages):
        turns += _answered(turn) if turn.role == "assistant" else _asked(turn, place)
    return turns


def _answered(turn: BlockTurn) -> list[Json]:
    """A turn of the model: its blocks, which are read as those of any past turn, and the calls it made."""
    blocks = _blocks(turn.content)
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: Json = {"role": "assistant", "content": blocks}
    return [{**message, "tool_calls": calls} if calls else message]


def _asked(turn: BlockTurn, place: int) -> list[Json]:
    """A turn of the user: the results of calls, each a message, then what is said."""
    blocks = _blocks(turn.content)
    results = [_result(block, place) for block in blocks if block.get("type") == "tool_result"]
    said = [block for block in blocks if block.get("type") != "tool_result"]
    text = _text(said, f"messages[{place}]")
    return results if results and not text else [*results, {"role": "user", "content": text}]


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _result(block: Mapping[str, Any], place: int) -> Json:
    content = _text(block.get("content") or "", f"messages[{place}]")
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}


def _call(block: Mapping[str, Any]) -> Json:
    function = {"name": block.get("name"), "arguments": block.get("input")}
    return {"id": block.get("id"), "type": "function", "function": function}


def _text(content: Any, field: str) -> str:
    """The text that content is.

    Args:
        content: a text, or blocks.
        field: where it stands.

    Raises:
        Fault: something in it is no text.
    """
    parameter = field.partition("[")[0]
    if isinstance(content, list) and not all(isinstance(block, dict) for block in content):
        raise bad_request(f"{field}: content is a text or a list of blocks", parameter)
    try:
        return content_text(content)
    except UnreadableBlockError as error:
        other = "nothing else" if error.kind is None else f"not {error.kind!r}"
        raise bad_request(f"{field}: only text can be read here, {other}", parameter) from error


def _tool(tool: Mapping[str, Any], place: int) -> Json:
    kind = tool.get("type") or "custom"
    if kind != "custom":
        message = f"tools[{place}]: tools of type {str(kind)[:50]!r} are not served, only your own"
        raise bad_request(message, "tools", "unsupported_parameter")
    kept = {"name": "name", "description": "description", "input_schema": "parameters"}
    return {"type": "function", "function": {kept[name]: tool[name] for name in kept if name in tool}}


def _choice(choice: Mapping[str, Any]) -> Any:
    kind = str(choice.get("type"))
    if kind == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if kind not in _CHOICES:
        raise bad_request("tool_choice.type is auto, any, tool with a name, or none", "tool_choice")
    return _CHOICES[kind]


def _format(body: CountRequest) -> Any:
    wanted = body.output_config.format if body.output_config else None
    if wanted is None:
        return None
    return {"type": wanted.get("type"), "json_schema": {"name": "answer", "schema": wanted.get("schema")}}
