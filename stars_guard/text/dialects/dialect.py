"""How one model family marks reasoning and tool calls in its text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from stars_guard.types import Channel

ReadCall: TypeAlias = tuple[str | None, Any]
"""Name and arguments of a call, as far as they can be read."""


@dataclass(frozen=True, slots=True)
class ArgumentFields:
    """How a family writes the arguments of a call one by one, instead of as one JSON object.

    Attributes:
        before: text before the value of the argument of that name.
        after: text after the value.
        between: text between two arguments.
        as_object: text before and after the arguments of a call where they must be one JSON object, because
            the schema says more than which ones there are.
        text: marks around a value that is a text and is written as it is; None: it is a JSON string.
    """

    before: Callable[[str], str]
    after: str
    as_object: Callable[[str], tuple[str, str]]
    between: str = ""
    text: tuple[str, str] | None = None

    def written(self, arguments: Mapping[str, Any]) -> str:
        """The arguments as the model would write them."""
        return self.between.join(
            self.before(key) + self._value(value) + self.after for key, value in arguments.items()
        )

    def _value(self, value: Any) -> str:
        if self.text is not None and isinstance(value, str):
            return self.text[0] + value + self.text[1]
        return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family writes.

    Attributes:
        name: for messages and traces.
        think: marks around reasoning, or None.
        call_open: mark before a tool call.
        call_close: mark after it; None if a call ends with its JSON, with the next call or with the answer.
        wrap: text before and after the arguments of a call to the tool of that name, marks left out.
        read: the calls in the text between the marks. Its second argument is True for an unfinished text, of
            which it reads what is there. Raises ValueError.
        inside: special tokens that may stand within a call.
        begins: how the text of a call may begin, blanks left out, with ``NAME(`` for a call as Python has it;
            none: in any way. What begins otherwise is mere text.
        quoted: pattern of the stretches of a call in which marks are part of a value.
        bare: how an answer may begin, blanks left out, that is a call without its opening mark. Where there
            is such a way, calls are written without the mark.
        answer_open: what stands before an answer, where the model does not just begin it.
        headers: a header between marks says which channel follows, as in Harmony.
        fields: how arguments are written one by one; None: as one JSON object.
        prefilled: the prompt already opened the reasoning.
    """

    name: str
    think: tuple[str, str] | None
    call_open: str
    call_close: str | None
    wrap: Callable[[str], tuple[str, str]]
    read: Callable[[str, bool], list[ReadCall]]
    inside: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    quoted: str = r'"(?:[^"\\\n]|\\.)*+"?'
    bare: tuple[str, ...] = ()
    answer_open: str = ""
    headers: bool = False
    fields: ArgumentFields | None = None
    prefilled: bool = False

    def marks(self, *, tools: bool) -> tuple[str, ...]:
        """Every mark that may appear."""
        if self.headers:
            return self.inside
        calls = [self.call_open, self.call_close] if tools else []
        return tuple(mark for mark in [*(self.think or ()), *calls] if mark)

    def channels(self, *, tools: bool) -> tuple[Channel, ...]:
        """The channels that an answer may have."""
        reasoning = (Channel.REASONING,) if self.think else ()
        return (*reasoning, Channel.ANSWER, *((Channel.TOOL,) if tools else ()))

    @property
    def opening(self) -> str:
        """What the model writes before a call."""
        return "" if self.bare else self.call_open

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """A whole call, as the model would write it."""
        before, after = self.wrap(name)
        written = self.fields.written(arguments) if self.fields else json.dumps(arguments, ensure_ascii=False)
        return self.opening + before + written + after + (self.call_close or "")


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

    @property
    def end(self) -> int:
        """Where ``text`` ends in the whole answer, in characters."""
        return self.start + len(self.text)
