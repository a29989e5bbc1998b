"""How model families mark reasoning and tool calls in their text, and what such a text says.

A dialect is plain data, so that a model with other marks needs no new code: pass your own :class:`Dialect`
to the language model. Sources of the three shipped ones: the public chat templates of Hermes 2 Pro and Qwen
2.5/3, of Llama 3.1 to 3.3, and of Mistral's v3 to v13 tokenizers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic_core import from_json

from stars_guard.prompts import Tools
from stars_guard.types import Channel

Said: TypeAlias = tuple[str | None, Any]
"""Name and arguments of a call, as far as they can be read."""


class Untyped(str):
    """An argument that was written without a type; the tool's schema says what it is."""

    unfinished = False
    """Whether its end is not written yet."""

    def typed(self, schema: Any) -> Any:
        """The value as the schema of this argument has it; the text itself where that does not fit."""
        if not isinstance(schema, Mapping) or schema.get("type", "string") == "string":
            return str(self)
        try:
            return _json(self, self.unfinished)
        except ValueError:
            return str(self)


class Unfinished(Untyped):
    """An untyped argument that may go on."""

    unfinished = True


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family writes.

    Attributes:
        name: for messages and traces.
        think: marks around reasoning, or None.
        call_open: mark before a tool call.
        call_close: mark after it; None if a call ends with the next one or with the answer.
        wrap: text before and after the JSON arguments of a call to the tool of that name, marks left out.
        read: the calls in the text between the marks. Its second argument is True for an unfinished text, of
            which it reads what is there. Raises ValueError.
        inside: special tokens that may stand within a call.
        bare: an answer that begins with ``{`` is a call without its opening mark.
        prefilled: the prompt already opened the reasoning.
    """

    name: str
    think: tuple[str, str] | None
    call_open: str
    call_close: str | None
    wrap: Callable[[str], tuple[str, str]]
    read: Callable[[str, bool], list[Said]]
    inside: tuple[str, ...] = ()
    bare: bool = False
    prefilled: bool = False

    def marks(self, *, tools: bool) -> tuple[str, ...]:
        """Every mark that may appear."""
        calls = [self.call_open, self.call_close] if tools else []
        return tuple(mark for mark in [*(self.think or ()), *calls] if mark)

    def channels(self, *, tools: bool) -> tuple[Channel, ...]:
        """The channels that an answer may have."""
        reasoning = (Channel.REASONING,) if self.think else ()
        return (*reasoning, Channel.ANSWER, *((Channel.TOOL,) if tools else ()))

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """A whole call, as the model would write it."""
        before, after = self.wrap(name)
        body = before + json.dumps(arguments, ensure_ascii=False) + after
        return self.call_open + body + (self.call_close or "")


@dataclass(frozen=True, slots=True)
class ChannelPart:
    """A stretch of an answer in one channel.

    Attributes:
        channel: whose text it is.
        text: marks left out.
        closed: whether its closing mark, or the next part, is there.
        start: where ``text`` begins in the whole answer, in characters.
    """

    channel: Channel
    text: str
    closed: bool
    start: int = 0


def split(text: str, dialect: Dialect, *, tools: bool) -> list[ChannelPart]:
    """The parts of an answer so far, marks left out; the last one is open unless it just ended.

    Args:
        text: the whole answer so far.
        dialect: how the model marks channels.
        tools: whether the answer may call tools; otherwise marks of calls are mere text.
    """
    parts: list[ChannelPart] = []
    channel = Channel.REASONING if dialect.prefilled else Channel.ANSWER
    if tools and dialect.bare and text.lstrip().startswith("{"):
        channel = Channel.TOOL
    start = 0
    while mark := _next_mark(text, start, exits := dict(_exits(channel, dialect, tools))):
        parts.append(ChannelPart(channel, text[start : mark.start()], closed=True, start=start))
        start, channel = mark.end(), exits[mark[0]]
    return [*parts, ChannelPart(channel, text[start:], closed=False, start=start)]


def _next_mark(text: str, start: int, exits: Mapping[str, Channel]) -> re.Match[str] | None:
    """The first mark after ``start`` that leaves a channel by one of its ``exits``."""
    # All in one pass: each alone would be looked for up to the end of the text, at every mark of another.
    return re.compile("|".join(map(re.escape, sorted(exits)))).search(text, start) if exits else None


def _exits(channel: Channel, dialect: Dialect, tools: bool) -> list[tuple[str, Channel]]:
    if channel is Channel.REASONING:
        return [(dialect.think[1], Channel.ANSWER)] if dialect.think else []
    if channel is Channel.TOOL:
        if dialect.call_close:
            return [(dialect.call_close, Channel.ANSWER)]
        return [(dialect.call_open, Channel.TOOL)]
    exits = [(dialect.think[0], Channel.REASONING)] if dialect.think else []
    return [*exits, (dialect.call_open, Channel.TOOL)] if tools else exits


def read_calls(dialect: Dialect, text: str, tools: Tools | None, *, partial: bool) -> list[Said]:
    """The calls in the text between the marks, each argument with its type.

    Args:
        dialect: how the model writes calls.
        text: what stands between the marks.
        tools: what may be called, with the types of arguments that were written without one.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: the text is no call.
    """
    calls = dialect.read(text, partial)
    return [(name, _typed_arguments(name, arguments, tools)) for name, arguments in calls]


def _typed_arguments(name: object, arguments: Any, tools: Tools | None) -> Any:
    if not isinstance(arguments, dict):
        return arguments
    schemas = tools.properties(name) if tools and isinstance(name, str) else {}
    return {
        key: value.typed(schemas.get(key)) if isinstance(value, Untyped) else value
        for key, value in arguments.items()
    }


def readable_call(dialect: Dialect, text: str, tools: Tools | None = None) -> str:
    """A call, finished or not, as a reward model should read it: in words, with escapes decoded.

    The same text for the judge and for a client that is told of a call that cannot be made.

    Args:
        dialect: how the model writes calls.
        text: what stands between the marks.
        tools: what may be called.
    """
    # What a whole call says comes first: what is read of an unfinished one can be less than what is made.
    for partial in (False, True):
        try:
            calls = read_calls(dialect, text, tools, partial=partial)
        except ValueError:
            continue
        return "\n".join(_said_aloud(name, arguments) for name, arguments in calls if name or arguments)
    return "".join(_decoded(piece[0]) for piece in _JSON_PIECES.finditer(text)).strip()


def readable_json(text: str) -> str:
    """A JSON answer, finished or not, as a reward model should read it, with escapes decoded.

    Only brackets are left out, since all of it is shown.
    """
    return "".join(_unescaped(piece[0]) for piece in _JSON_PIECES.finditer(text)).strip()


_JSON_PIECES = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)|[^"]+', re.DOTALL)
_BRACKETS = str.maketrans("", "", "{}[]")


def _unescaped(piece: str) -> str:
    return _decoded(piece) if piece.startswith('"') else piece.translate(_BRACKETS)


def _decoded(piece: str) -> str:
    """What a JSON string says; any other text as it is."""
    if not piece.startswith('"'):
        return piece
    try:
        return str(_json(piece, partial=True))
    except ValueError:
        return piece


def _said_aloud(name: Any, arguments: Any) -> str:
    pairs = ", ".join(_pairs(arguments, ""))
    return f"I will use {', '.join(_pairs(name, '')) if name else 'a tool'}" + (
        f" with {pairs}" if pairs else ""
    )


def _pairs(value: Any, label: str) -> list[str]:
    """Every leaf behind the keys that lead to it; an empty object or list is a leaf with nothing to say."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else (("", item) for item in value)
        pairs = [pair for key, item in inner for pair in _pairs(item, _label(label, key))]
        return pairs or ([label] if label else [])
    words = value if isinstance(value, str) else json.dumps(value)
    return [f"{label}: {words}" if label else words]


def _label(outer: str, key: str) -> str:
    return f"{outer} {key}" if outer and key else outer or key


def _json(text: str, partial: bool) -> Any:
    # As bytes, since a text from elsewhere may hold half of a surrogate pair.
    encoded = text.strip().encode("utf-8", "replace")
    return from_json(encoded, allow_partial="trailing-strings" if partial else False)


def _said(call: Any, key: str) -> Said:
    if not isinstance(call, dict):
        raise ValueError(f"a call must be a JSON object, got {type(call).__name__}")
    return call.get("name"), call.get(key, {})


def _object(key: str) -> Callable[[str, bool], list[Said]]:
    """One JSON object a call, several separated by semicolons."""

    def read(text: str, partial: bool) -> list[Said]:
        # Cut first: an unfinished text is read only as far as its first object goes.
        pieces = [piece for piece in _BETWEEN_SEMICOLONS.findall(text) if piece.strip()]
        return [_said(_json(piece, partial), key) for piece in pieces or [text]]

    return read


_BETWEEN_SEMICOLONS = re.compile(r'(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|[^";])+', re.DOTALL)
"""Stretches between the semicolons that stand outside of JSON strings."""


def _read_hermes(text: str, partial: bool) -> list[Said]:
    """One JSON object, or the tags of Qwen 3.5 and Qwen3-Coder."""
    if text.lstrip().startswith("<function="):
        return [_read_tags(text.strip(), partial)]
    return _read_objects(text, partial)


_read_objects = _object("arguments")


def _read_tags(text: str, partial: bool) -> Said:
    """``<function=NAME><parameter=KEY>VALUE</parameter>...</function>``."""
    head, _, body = text.removeprefix("<function=").partition(">")
    if not partial and not body.endswith("</function>"):
        raise ValueError("a call without </function> at its end")
    values = (piece.partition(">") for piece in body.split("<parameter=")[1:])
    return head.strip(), {key.strip(): _value(value, partial) for key, _, value in values}


def _value(text: str, partial: bool) -> Untyped:
    value, end, _ = text.partition("</parameter>")
    kind = Unfinished if partial and not end else Untyped
    return kind(value.removeprefix("\n").removesuffix("\n"))


def _read_mistral(text: str, partial: bool) -> list[Said]:
    """A JSON list of calls (v3 to v7), or a name followed by its arguments (v11 on)."""
    text = text.strip()
    if text.startswith(("[", "{")) or not text:
        calls = _json(text, partial)
        return [_said(call, "arguments") for call in (calls if isinstance(calls, list) else [calls])]
    start = text.find("{")
    name = text[: start if start >= 0 else len(text)].split("[ARGS]")[0].split("[CALL_ID]")[0].strip()
    if start < 0 and not partial:
        raise ValueError("a call without arguments")
    return [(name, _json(text[start:], partial) if start >= 0 else {})]


HERMES = Dialect(
    name="hermes",
    think=("<think>", "</think>"),
    call_open="<tool_call>",
    call_close="</tool_call>",
    wrap=lambda name: (f'\n{{"name": {json.dumps(name)}, "arguments": ', "}\n"),
    read=_read_hermes,
)
LLAMA3 = Dialect(
    name="llama3",
    think=None,
    call_open="<|python_tag|>",
    call_close=None,
    wrap=lambda name: (f'{{"name": {json.dumps(name)}, "parameters": ', "}"),
    read=_object("parameters"),
    bare=True,
)
MISTRAL = Dialect(
    name="mistral",
    think=("[THINK]", "[/THINK]"),
    call_open="[TOOL_CALLS]",
    call_close=None,
    wrap=lambda name: (f'[{{"name": {json.dumps(name)}, "arguments": ', "}]"),
    read=_read_mistral,
    inside=("[ARGS]", "[CALL_ID]"),
)
PLAIN = Dialect(
    name="plain",
    think=None,
    call_open="<tool_call>",
    call_close="</tool_call>",
    wrap=HERMES.wrap,
    read=HERMES.read,
)
"""No reasoning marks; calls, if any, in the Hermes way."""
DIALECTS = {dialect.name: dialect for dialect in (HERMES, LLAMA3, MISTRAL, PLAIN)}
