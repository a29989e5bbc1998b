"""Calls and JSON answers as a reward model should read them: in words, with escapes decoded."""

from __future__ import annotations

import json
import re
from typing import Any

from stars_guard.prompts import Tools
from stars_guard.text.dialects.dialect import Dialect, ReadCall
from stars_guard.text.dialects.json_text import parse_json
from stars_guard.text.dialects.values import Untyped, property_schema


def read_calls(dialect: Dialect, text: str, tools: Tools | None, *, partial: bool) -> list[ReadCall]:
    """The calls in the text between the marks, each argument with its type.

    Args:
        dialect: how the model writes calls.
        text: what stands between the marks.
        tools: what may be called, with the types of arguments that were written without one.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: the text is no call.
    """
    calls = dialect.read(text, partial)
    return [(name, _typed_arguments(name, arguments, tools)) for name, arguments in calls]


def _typed_arguments(name: object, arguments: Any, tools: Tools | None) -> Any:
    if not isinstance(arguments, dict):
        return arguments
    root = tools.parameters(name) if tools and isinstance(name, str) else {}
    return {
        key: value.typed(property_schema(root, key, root), root) if isinstance(value, Untyped) else value
        for key, value in arguments.items()
    }


def readable_call(dialect: Dialect, text: str, tools: Tools | None = None) -> str:
    """A call, finished or not, as a reward model should read it: in words, with escapes decoded.

    The same text for the judge and for a client that is told of a call that cannot be made.

    Args:
        dialect: how the model writes calls.
        text: what stands between the marks.
        tools: what may be called.
    """
    # What a whole call says comes first: what is read of an unfinished one can be less than what is made.
    for partial in (False, True):
        try:
            calls = read_calls(dialect, text, tools, partial=partial)
        except ValueError:
            continue
        return "\n".join(_said_aloud(name, arguments) for name, arguments in calls if name or arguments)
    return "".join(_decoded(piece[0]) for piece in _JSON_PIECES.finditer(text)).strip()


def readable_json(text: str) -> str:
    """A JSON answer, finished or not, as a reward model should read it, with escapes decoded.

    Only brackets are left out, since all of it is shown.
    """
    return "".join(_unescaped(piece[0]) for piece in _JSON_PIECES.finditer(text)).strip()


_JSON_PIECES = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)|[^"]+', re.DOTALL)
_BRACKETS = str.maketrans("", "", "{}[]")


def _unescaped(piece: str) -> str:
    return _decoded(piece) if piece.startswith('"') else piece.translate(_BRACKETS)


def _decoded(piece: str) -> str:
    """What a JSON string says; any other text as it is."""
    if not piece.startswith('"'):
        return piece
    try:
        return str(parse_json(piece, partial=True))
    except ValueError:
        return piece


def _said_aloud(name: Any, arguments: Any) -> str:
    pairs = ", ".join(_pairs(arguments, ""))
    return f"I will use {', '.join(_pairs(name, '')) if name else 'a tool'}" + (
        f" with {pairs}" if pairs else ""
    )


def _pairs(value: Any, label: str) -> list[str]:
    """Every leaf behind the keys that lead to it; an empty object or list is a leaf with nothing to say."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else (("", item) for item in value)
        pairs = [pair for key, item in inner for pair in _pairs(item, _label(label, key))]
        return pairs or ([label] if label else [])
    words = value if isinstance(value, str) else json.dumps(value)
    return [f"{label}: {words}" if label else words]


def _label(outer: str, key: str) -> str:
    return f"{outer} {key}" if outer and key else outer or key
