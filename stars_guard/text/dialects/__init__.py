"""How model families mark reasoning and tool calls in their text, and what such a text says.

A dialect is plain data, so that a model with other marks needs no new code: pass your own :class:`Dialect`
to the language model. Sources of the shipped ones are the public chat templates and format guides of the
families; each module names its own.
"""

from stars_guard.text.dialects.deepseek import DEEPSEEK, DEEPSEEK_V31
from stars_guard.text.dialects.detection import DIALECTS, dialect_of, unknown_marks
from stars_guard.text.dialects.dialect import ArgumentFields, ChannelPart, Dialect, ReadCall
from stars_guard.text.dialects.gemma import FUNCTION_GEMMA, GEMMA
from stars_guard.text.dialects.granite import GRANITE, PHI4
from stars_guard.text.dialects.harmony import HARMONY
from stars_guard.text.dialects.hermes import HERMES, PLAIN, QWEN_CODER
from stars_guard.text.dialects.llama import LLAMA3
from stars_guard.text.dialects.mistral import MISTRAL
from stars_guard.text.dialects.splitting import split
from stars_guard.text.dialects.values import Untyped
from stars_guard.text.dialects.words import read_calls, readable_call, readable_json

__all__ = [
    "DEEPSEEK",
    "DEEPSEEK_V31",
    "DIALECTS",
    "FUNCTION_GEMMA",
    "GEMMA",
    "GRANITE",
    "HARMONY",
    "HERMES",
    "LLAMA3",
    "MISTRAL",
    "PHI4",
    "PLAIN",
    "QWEN_CODER",
    "ArgumentFields",
    "ChannelPart",
    "Dialect",
    "ReadCall",
    "Untyped",
    "dialect_of",
    "read_calls",
    "readable_call",
    "readable_json",
    "split",
    "unknown_marks",
]
