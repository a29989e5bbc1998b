"""Gemma: calls in a block of Python (Gemma 3 and 3n), or FunctionGemma's own marks."""

from __future__ import annotations

import json
import re

from stars_guard.text.dialects.dialect import ArgumentFields, Dialect, ReadCall
from stars_guard.text.dialects.reading import json_wrap, named_json, read_python

_NAME = re.compile(r"[A-Za-z_]\w*\Z")


def _key(key: str) -> str:
    return key if _NAME.match(key) else json.dumps(key, ensure_ascii=False)


def _read_marked(text: str, partial: bool) -> list[ReadCall]:
    """``call:NAME{KEY:VALUE,...}``."""
    head, brace, body = text.strip().partition("{")
    if not partial and not head.startswith("call:"):
        raise ValueError("a call without its name")
    return [named_json(head.removeprefix("call:"), brace + body, partial)]


GEMMA = Dialect(
    name="gemma",
    think=None,
    call_open="```tool_code",
    call_close="```",
    wrap=lambda name: (f"\n{name}(", ")\n"),
    read=read_python,
    quoted=r""""(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?""",
    fields=ArgumentFields(
        before=lambda key: f"{_key(key)}=",
        after="",
        as_object=json_wrap("parameters", "\n", "\n"),
        between=", ",
    ),
)
"""Gemma 3 and 3n, whose templates know no tools; the form is the one that their makers show in prompts."""
FUNCTION_GEMMA = Dialect(
    name="function_gemma",
    think=None,
    call_open="<start_function_call>",
    call_close="<end_function_call>",
    wrap=lambda name: (f"call:{name}{{", "}"),
    read=_read_marked,
    inside=("<escape>",),
    begins=("call:",),
    quoted=r"<escape>(?s:.)*?(?:<escape>|\Z)",
    fields=ArgumentFields(
        before=lambda key: f"{_key(key)}:",
        after="",
        as_object=lambda name: (f"call:{name}", ""),
        between=",",
        text=("<escape>", "<escape>"),
    ),
)
