"""An answer, cut where its marks say that another channel begins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from stars_guard.text.dialects.dialect import ChannelPart, Dialect
from stars_guard.types import Channel

_BEGINNING = 64
"""Characters in which it is seen that a text does not begin as a call does."""
_NAMED = re.compile(r"\s*[A-Za-z_][\w.\-]{0,63}(?:\(|\Z)")
_Exit: TypeAlias = tuple[int, int, Channel]
"""Where a channel ends, where the next one begins, and which it is."""


def split(text: str, dialect: Dialect, *, tools: bool) -> list[ChannelPart]:
    """The parts of an answer so far, marks left out; the last one is open unless it just ended.

    What stands behind an opening mark and cannot be a call is in no part of its own. A mark within a value of
    a call, such as a JSON string, is none.

    Args:
        text: the whole answer so far.
        dialect: how the model marks channels.
        tools: whether the answer may call tools; otherwise marks of calls are mere text.
    """
    channel = Channel.REASONING if dialect.prefilled else Channel.ANSWER
    if tools and dialect.bare and text.strip() and _may_begin(text, 0, dialect.bare):
        channel = Channel.TOOL
    leave = _leave_message if dialect.headers else _leave
    parts: list[ChannelPart] = []
    start = 0
    while channel_exit := leave(text, start, channel, dialect, tools):
        end, resumed, following = channel_exit
        parts.append(ChannelPart(channel, text[start:end], closed=True, start=start))
        start, channel = resumed, following
    return [*parts, ChannelPart(channel, text[start:], closed=False, start=start)]


def _may_begin(text: str, place: int, beginnings: Sequence[str]) -> bool:
    """Whether the text may go on from ``place`` as one of the beginnings does, blanks left out."""
    if "NAME(" in beginnings and _NAMED.match(text, place):
        return True
    head = "".join(text[place : place + _BEGINNING].split())
    return not beginnings or any(head.startswith(begin) or begin.startswith(head) for begin in beginnings)


def _leave(text: str, start: int, channel: Channel, dialect: Dialect, tools: bool) -> _Exit | None:
    """The exit of a channel whose text begins at ``start``."""
    if channel is Channel.TOOL:
        return _after_call(text, start, dialect)
    exits = {}
    if dialect.think:
        exits = {dialect.think[1]: Channel.ANSWER}
        if channel is Channel.ANSWER:
            exits = {dialect.think[0]: Channel.REASONING}
    if tools and channel is Channel.ANSWER:
        exits[dialect.call_open] = Channel.TOOL
    for mark in _marks(text, start, tuple(exits)):
        following = exits[mark[0]]
        if following is not Channel.TOOL or _may_begin(text, mark.end(), dialect.begins):
            return mark.start(), mark.end(), following
    return None


def _marks(text: str, start: int, marks: Sequence[str], quoted: str = "") -> Iterator[re.Match[str]]:
    """The marks that stand in the text from ``start`` on, and not in what is ``quoted``, a pattern."""
    # Nothing that cannot match is in the pattern, so that a character which all marks begin with is looked
    # for alone: many times faster, and every segment has the whole answer read.
    sought = [re.escape(mark) for mark in sorted(marks, key=len, reverse=True)]
    pattern = "|".join([f"(?P<quoted>{quoted})", *sought] if quoted else sought)
    if not pattern:
        return iter(())
    # All in one pass: each alone would be looked for up to the end of the text, at every mark of another.
    matches = re.compile(pattern).finditer(text, start)
    return (mark for mark in matches if not (quoted and mark["quoted"] is not None))


def _after_call(text: str, start: int, dialect: Dialect) -> _Exit | None:
    """The exit of a call: its closing mark, the next call, or the end of its JSON."""
    depth = 0
    brackets = () if dialect.call_close else ("{", "}", "[", "]")
    marks = [mark for mark in (dialect.call_close, dialect.call_open, *brackets) if mark]
    quoted = "|".join([dialect.quoted, *map(re.escape, dialect.inside)])
    for mark in _marks(text, start, marks, quoted):
        if mark[0] == dialect.call_close:
            return mark.start(), mark.end(), Channel.ANSWER
        if mark[0] == dialect.call_open:
            return mark.start(), mark.end(), Channel.TOOL
        depth += 1 if mark[0] in "{[" else -1
        if depth == 0 and (following := _after_json(text, mark.end(), dialect)):
            return mark.end(), mark.end(), following
    return None


def _after_json(text: str, end: int, dialect: Dialect) -> Channel | None:
    """What follows the JSON of a call; None if that is more of it, or is not known yet."""
    rest = text[end : end + _BEGINNING].lstrip()
    goes_on = rest.startswith((";", ",")) or dialect.call_open.startswith(rest)
    if goes_on or rest.startswith(dialect.call_open):
        return None
    return Channel.TOOL if dialect.bare and _may_begin(rest, 0, dialect.bare) else Channel.ANSWER


_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_HEADER = re.compile(r"(?:<\|(?:start|channel|constrain)\|>[^<\n]*+)+<\|message\|>")
_BEGUN_HEADER = re.compile(r"(?:<\|(?:start|channel|constrain)\|>[^<\n]*+)+(?:<[|a-z]*)?\Z")
_RECIPIENT = re.compile(r"to=functions\.")


def _leave_message(text: str, start: int, channel: Channel, dialect: Dialect, tools: bool) -> _Exit | None:
    """The exit of a message that a header introduced, or of what stands before the first header."""
    quoted = dialect.quoted if channel is Channel.TOOL else ""
    # The header of a call is part of it: its name stands there.
    place = text.find("<|message|>", start) if channel is Channel.TOOL else start
    for mark in _marks(text, max(place, start), (*_ENDS, "<|start|>", "<|channel|>"), quoted):
        if mark[0] in _ENDS:
            return mark.start(), mark.end(), Channel.ANSWER
        if header := _HEADER.match(text, mark.start()):
            return mark.start(), *_introduced(header, tools)
        begun = _BEGUN_HEADER.match(text, mark.start())
        return mark.start(), len(text) if begun else mark.end(), Channel.ANSWER
    return None


def _introduced(header: re.Match[str], tools: bool) -> tuple[int, Channel]:
    """Where the text behind a header begins, and in which channel; a call begins with its name."""
    recipient = _RECIPIENT.search(header[0])
    if recipient and tools:
        return header.start() + recipient.end(), Channel.TOOL
    return header.end(), Channel.REASONING if "analysis" in header[0] else Channel.ANSWER
