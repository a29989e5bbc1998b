"""DeepSeek V3, R1 and V3.1: a list of calls between marks, each with its name and a block of JSON."""

from __future__ import annotations

import re
from dataclasses import replace

from stars_guard.text.dialects.dialect import Dialect, ReadCall
from stars_guard.text.dialects.reading import named_json

_BAR = "\N{FULLWIDTH VERTICAL LINE}"
_BEGIN, _END = f"<{_BAR}tool▁call▁begin{_BAR}>", f"<{_BAR}tool▁call▁end{_BAR}>"
_SEPARATOR = f"<{_BAR}tool▁sep{_BAR}>"
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)(?:\n?```\s*)?\Z", re.DOTALL)


def _read(text: str, partial: bool) -> list[ReadCall]:
    calls = [piece.partition(_END)[0] for piece in text.split(_BEGIN)[1:]]
    if not calls and not partial:
        raise ValueError("a list without a call")
    return [_read_one(call, partial) for call in calls]


def _read_one(text: str, partial: bool) -> ReadCall:
    """``function<sep>NAME`` and a block of JSON (V3, R1), or ``NAME<sep>JSON`` (V3.1)."""
    head, _, body = text.partition(_SEPARATOR)
    if head.strip() == "function":
        head, _, body = body.partition("\n")
    fenced = _FENCE.match(body)
    return named_json(head, fenced[1] if fenced else body, partial)


DEEPSEEK = Dialect(
    name="deepseek",
    think=("<think>", "</think>"),
    call_open=f"<{_BAR}tool▁calls▁begin{_BAR}>",
    call_close=f"<{_BAR}tool▁calls▁end{_BAR}>",
    wrap=lambda name: (f"{_BEGIN}function{_SEPARATOR}{name}\n```json\n", f"\n```{_END}"),
    read=_read,
    inside=(_BEGIN, _END, _SEPARATOR),
)
"""DeepSeek V3 and R1."""
DEEPSEEK_V31 = replace(DEEPSEEK, name="deepseek_v31", wrap=lambda name: (f"{_BEGIN}{name}{_SEPARATOR}", _END))
"""DeepSeek V3.1 and what follows its template."""
