"""Llama 3.1 to 3.3: an answer that is the JSON of a call, or such JSON behind ``<|python_tag|>``."""

from __future__ import annotations

from stars_guard.text.dialects.dialect import Dialect
from stars_guard.text.dialects.reading import ARGUMENTS, json_wrap, read_objects

_KEYS = ("name", "function", "type", "id", *ARGUMENTS)

LLAMA3 = Dialect(
    name="llama3",
    think=None,
    call_open="<|python_tag|>",
    call_close=None,
    wrap=json_wrap("parameters"),
    read=read_objects,
    begins=("{", "["),
    bare=tuple(
        f"{opening}{quote}{key}{quote}" for opening in ("{", "[{") for quote in "\"'" for key in _KEYS
    ),
)
