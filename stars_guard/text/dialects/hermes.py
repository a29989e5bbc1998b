"""Hermes 2 Pro, Qwen 2.5 to 3.5, Granite 4 and others: JSON or tags between ``<tool_call>`` marks."""

from __future__ import annotations

from dataclasses import replace

from stars_guard.text.dialects.dialect import ArgumentFields, Dialect, ReadCall
from stars_guard.text.dialects.reading import json_wrap, read_objects, read_tags


def _read(text: str, partial: bool) -> list[ReadCall]:
    """One JSON object or a list, or the tags of Qwen 3.5 and Qwen3-Coder."""
    if text.lstrip().startswith("<function="):
        return [read_tags(text, partial)]
    return read_objects(text, partial)


HERMES = Dialect(
    name="hermes",
    think=("<think>", "</think>"),
    call_open="<tool_call>",
    call_close="</tool_call>",
    wrap=json_wrap("arguments", "\n", "\n"),
    read=_read,
    begins=("{", "[", "<function=", "NAME("),
    quoted=r'<parameter=(?s:.)*?(?=</parameter>|</function>|\Z)|"(?:[^"\\\n]|\\.)*+"?',
)
PLAIN = replace(HERMES, name="plain", think=None)
"""No reasoning marks; calls, if any, in the Hermes way."""
QWEN_CODER = replace(
    HERMES,
    name="qwen_coder",
    wrap=lambda name: (f"\n<function={name}>\n", "</function>\n"),
    fields=ArgumentFields(
        before=lambda key: f"<parameter={key}>\n",
        after="\n</parameter>\n",
        as_object=HERMES.wrap,
        text=("", ""),
    ),
)
"""Calls in tags, as Qwen3-Coder and Qwen 3.5 are told to write them."""
