"""What messages hold in the forms of frameworks, servers and other providers, as text and as plain calls.

A conversation may have begun elsewhere, and nobody can take back what is in it. So a past turn of an
assistant is taken as far as it makes sense: text is kept, a picture is named, a call whose arguments cannot
be read has them as one text, and what other providers note about their own work is left out. What a user or
a tool says is read as text or refused, since an answer that overlooks a part of the question would be worse.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from stars_guard.errors import PromptError
from stars_guard.prompts import CalledFunction, Message, MessageToolCall, whole

log = logging.getLogger("stars_guard.content")

UNREAD = "unread"
"""Name under which a past call has the text of its arguments, where they are no JSON object."""

_TEXTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "text-plain": "text",
    "refusal": "refusal",
}
"""Kinds of block that are text, and their field that holds it."""
_AROUND = ("tool_result", "search_result", "document")
"""Kinds of block with content of their own, as Anthropic has them."""
_PICTURED = ("image", "audio", "video", "file", "document")
_MEDIA = {
    **{kind: kind for kind in _PICTURED},
    **{f"{kind}_url": kind for kind in ("image", "audio", "video", "file")},
    **{f"input_{kind}": kind for kind in ("image", "audio", "video", "file")},
    "output_audio": "audio",
    "image_generation_call": "image",
    "media": "file",
    "inline_data": "file",
    "inlineData": "file",
    "file_data": "file",
    "fileData": "file",
    "container_upload": "file",
}
"""Kinds of block that other models read, and what each is called in a past turn."""
_CALLS = ("tool_use", "toolUse", "tool_call", "function_call", "functionCall")
"""Kinds of block that are a call."""
_CALL_IDS = ("call_id", "toolUseId", "id")
_CALL_ARGUMENTS = ("input", "args", "arguments")
_SILENT = frozenset(
    {
        *_CALLS,
        "invalid_tool_call",
        "reasoning",
        "reasoning_content",
        "reasoningContent",
        "redacted_thinking",
        "thinking",
        "tool_call_chunk",
        "cachePoint",
        "cache_point",
        "cache_control",
    }
)
"""Kinds that say nothing in any turn: calls stand elsewhere, and templates leave past reasoning out."""


class UnreadableBlockError(PromptError):
    """A message holds something that is no text.

    Attributes:
        kind: what it is, where that is known.
    """

    kind: str | None = None


def content_text(content: object, *, past: bool = False, where: str = "a message") -> str:
    """The text of a message's content, in whatever form.

    Args:
        content: a text, a number, None, a block, or a list of blocks and texts.
        past: whether an assistant said it, in an earlier turn.
        where: what error messages call the message.

    Raises:
        UnreadableBlockError: it holds something other than text, and is no past turn.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Sequence):
        return json.dumps(content, default=str)
    text = ""
    for block in content:
        if not isinstance(block, Mapping):
            text += content_text(block, past=past, where=where)
            continue
        said = _block_text(block, past, where)
        # A refusal may stand beside the text that already says it.
        text += "" if block.get("type") == "refusal" and text.endswith(said) else said
    return text


def _block_text(block: Mapping[str, Any], past: bool, where: str) -> str:
    kind = _kind(block)
    if block.get("thought") is True or kind in _SILENT:  # Gemini marks text that is a thought
        return ""
    text = block.get(_TEXTS.get(kind, ""))
    if isinstance(text, str):
        return text
    if kind in _AROUND and (inner := _inner(block)) is not None:
        return content_text(inner, past=past, where=where)
    media = _MEDIA.get(kind)
    if past:
        log.debug("a block of a past turn that is no text was %s", "named" if media else "left out")
        return f"[{media}]" if media else ""
    named = kind if media or kind == "non_standard" else None
    shown = "that is no text" if named is None else f"of type {named!r}"
    error = UnreadableBlockError(f"{where} holds a block {shown}; this model reads text only")
    error.kind = named
    raise error


def _kind(block: Mapping[str, Any]) -> str:
    """The type of a block; some providers name it by its only key."""
    stated = block.get("type")
    if isinstance(stated, str):
        return stated
    known = (*_TEXTS, *_SILENT, *_MEDIA)
    return next((name for name in known if name in block), "")


def _inner(block: Mapping[str, Any]) -> object:
    """The content of a block around others; None where it is no text."""
    if "content" in block:
        return block["content"]
    source = block.get("source")
    if not isinstance(source, Mapping):
        return None
    return {"text": source.get("data"), "content": source.get("content")}.get(str(source.get("type")))


def call_arguments(arguments: object) -> dict[str, Any]:
    """The arguments of a past call as an object; where they are none, their text under :data:`UNREAD`.

    Args:
        arguments: an object, its JSON text, or what a model wrote instead.
    """
    value = arguments
    for _ in range(2):  # some servers write JSON as a text within JSON
        value = _parsed(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    if value in (None, "", []):
        return {}
    log.debug("the arguments of a past call are no JSON object, and were taken as a text")
    return {UNREAD: value if isinstance(value, str) else json.dumps(value, default=str)}


def _parsed(text: str) -> object:
    """What a text says as JSON; the text itself where it is none."""
    try:
        return from_json(whole(text), allow_inf_nan=False)
    except ValueError:
        return text.strip()


def past_tool_call(call_id: object, name: object, arguments: object) -> MessageToolCall:
    """A call that an earlier turn of the assistant made, taken whatever it is: nobody will make it again.

    Args:
        call_id: id by which the tool's result names it; empty if it has none.
        name: name of the tool.
        arguments: as :func:`call_arguments` takes them.
    """
    function = CalledFunction(name=str(name or UNREAD), arguments=call_arguments(arguments))
    return {"id": str(call_id or ""), "type": "function", "function": function}


def block_calls(content: object) -> list[MessageToolCall]:
    """The calls among the blocks of a past turn, as Anthropic, Responses, Bedrock and Gemini have them."""
    blocks = content if isinstance(content, Sequence) and not isinstance(content, str) else [content]
    calls = []
    for block in blocks:
        if isinstance(block, Mapping) and (kind := _kind(block)) in _CALLS:
            inner = block.get(kind)
            fields = inner if isinstance(inner, Mapping) else block
            values = [
                next((fields[key] for key in keys if key in fields), None)
                for keys in (_CALL_IDS, ("name",), _CALL_ARGUMENTS)
            ]
            calls.append(past_tool_call(*values))
    return calls


def linked_turns(messages: Iterable[Message]) -> list[Message]:
    """The conversation, in which every call has an id, and a result without one that of a call before it.

    Such a result belongs to the first call that has none yet, and takes its name, too. A result whose call is
    gone stays as it is.
    """
    turns: list[Message] = []
    waiting: list[MessageToolCall] = []
    for number, message in enumerate(messages):
        if calls := message.get("tool_calls"):
            calls = [_with_id(call, number, place) for place, call in enumerate(calls)]
            message = {**message, "tool_calls": calls}
            waiting += calls
        elif message["role"] == "tool":
            message = _of_first_waiting(message, waiting)
            answered = message.get("tool_call_id")
            waiting = [call for call in waiting if call["id"] != answered]
        turns.append(message)
    return turns


def _with_id(call: MessageToolCall, turn: int, place: int) -> MessageToolCall:
    # Nine letters and digits, as the strictest chat templates want.
    return call if call["id"] else {**call, "id": f"call{turn % 1000:03}{place % 100:02}"}


def _of_first_waiting(message: Message, waiting: Sequence[MessageToolCall]) -> Message:
    if message.get("tool_call_id") or not waiting:
        return message
    name = message.get("name") or waiting[0]["function"]["name"]
    return {**message, "tool_call_id": waiting[0]["id"], "name": name}
