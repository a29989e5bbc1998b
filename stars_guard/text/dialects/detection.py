"""Which dialect a model speaks, by what its chat template and its vocabulary say."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from stars_guard.text.dialects.deepseek import DEEPSEEK, DEEPSEEK_V31
from stars_guard.text.dialects.dialect import Dialect
from stars_guard.text.dialects.gemma import FUNCTION_GEMMA, GEMMA
from stars_guard.text.dialects.granite import GRANITE, PHI4
from stars_guard.text.dialects.harmony import HARMONY
from stars_guard.text.dialects.hermes import HERMES, PLAIN, QWEN_CODER
from stars_guard.text.dialects.llama import LLAMA3
from stars_guard.text.dialects.mistral import MISTRAL

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        *(HERMES, QWEN_CODER, LLAMA3, MISTRAL, DEEPSEEK, DEEPSEEK_V31),
        *(HARMONY, GRANITE, PHI4, GEMMA, FUNCTION_GEMMA, PLAIN),
    )
}
"""Every dialect that is known, by name."""
_SIGNS: tuple[tuple[tuple[str, ...], Dialect], ...] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    (("<start_function_call>",), FUNCTION_GEMMA),
    (("[TOOL_CALLS]",), MISTRAL),
    ((DEEPSEEK.call_open, "```json"), DEEPSEEK),
    ((DEEPSEEK.call_open,), DEEPSEEK_V31),
    (("<tool_call>", "<function="), QWEN_CODER),
    (("<tool_call>",), HERMES),
    (("<|tool_call|>", "<|/tool_call|>"), PHI4),
    (("<|tool_call|>",), GRANITE),
    (("<|python_tag|>",), LLAMA3),
    (("<|start_header_id|>",), LLAMA3),
    (("<start_of_turn>",), GEMMA),
)
"""What all stands in the template, or in the vocabulary, of models that speak a dialect; the first fits."""


def dialect_of(template: str, tokens: Collection[str]) -> Dialect:
    """The dialect of a model; Hermes calls where nothing says how it calls.

    Args:
        template: source of the chat template.
        tokens: added to the vocabulary; they decide where the template does not.
    """
    vocabulary = " ".join(tokens)
    signed = (
        dialect for known in (template, vocabulary) for signs, dialect in _SIGNS if _all_in(signs, known)
    )
    return _with_known_reasoning(next(signed, HERMES), f"{template} {vocabulary}")


def _all_in(signs: Collection[str], known: str) -> bool:
    return all(sign in known for sign in signs)


def _with_known_reasoning(dialect: Dialect, known: str) -> Dialect:
    """The dialect with the marks of reasoning that the model knows, if any."""
    if dialect.headers or (dialect.think and dialect.think[0] in known):
        return dialect
    if "<think>" in known:
        return replace(dialect, think=HERMES.think)
    return PLAIN if dialect is HERMES else replace(dialect, think=None)


_BAR = "[|\N{FULLWIDTH VERTICAL LINE}]?"
_CONTROL = re.compile(rf"<{_BAR}[\w▁:/.\-]{{2,40}}{_BAR}>|\[/?[A-Z][A-Z_]{{2,30}}\]|◁/?\w{{2,20}}▷")
_ABOUT = re.compile(r"tool|call|think|reason|thought|channel|function|action", re.IGNORECASE)
_IN_PROMPTS = re.compile(
    r"response|output|result|declaration|available|content|/?tools\W|/?function(s|_list)?\W|role",
    re.IGNORECASE,
)
"""Marks around what a template tells the model, which the model does not write."""


def unknown_marks(template: str, dialect: Dialect) -> list[str]:
    """Control tokens of a template that look as if the model wrote them and the dialect does not know.

    Args:
        template: source of the chat template.
        dialect: that was found for it.
    """
    known = "".join([*dialect.marks(tools=True), *dialect.inside, dialect.call_open])
    marks = {mark for mark in _CONTROL.findall(template) if _ABOUT.search(mark)}
    return sorted(mark for mark in marks if mark not in known and not _IN_PROMPTS.search(mark))
