"""Mistral's v3 to v13 tokenizers: a JSON list behind ``[TOOL_CALLS]``, or a name and its arguments."""

from __future__ import annotations

from stars_guard.text.dialects.dialect import Dialect, ReadCall
from stars_guard.text.dialects.reading import json_wrap, named_json, read_objects


def _read(text: str, partial: bool) -> list[ReadCall]:
    """A JSON list of calls (v3 to v7), or a name followed by its arguments (v11 on)."""
    text = text.strip()
    if text.startswith(("[", "{")) or not text:
        return read_objects(text, partial)
    start = text.find("{") % (len(text) + 1)  # its end where there is none
    name = text[:start].split("[ARGS]")[0].split("[CALL_ID]")[0]
    return [named_json(name, text[start:], partial)]


MISTRAL = Dialect(
    name="mistral",
    think=("[THINK]", "[/THINK]"),
    call_open="[TOOL_CALLS]",
    call_close=None,
    wrap=json_wrap("arguments", "[", "]"),
    read=_read,
    inside=("[ARGS]", "[CALL_ID]"),
)
