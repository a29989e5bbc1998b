"""Granite 3 and Phi-4-mini: a JSON list of calls behind ``<|tool_call|>``."""

from __future__ import annotations

from dataclasses import replace

from stars_guard.text.dialects.dialect import Dialect
from stars_guard.text.dialects.reading import json_wrap, read_objects

GRANITE = Dialect(
    name="granite",
    think=("<think>", "</think>"),
    call_open="<|tool_call|>",
    call_close=None,
    wrap=json_wrap("arguments", "[", "]"),
    read=read_objects,
    begins=("{", "["),
)
PHI4 = replace(GRANITE, name="phi4", call_close="<|/tool_call|>")
"""Phi-4-mini, which marks the end of a list as well."""
