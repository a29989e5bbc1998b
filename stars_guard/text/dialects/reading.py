"""Calls read from what a model wrote: JSON objects, Python literals, tags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from stars_guard.text.dialects.dialect import ReadCall
from stars_guard.text.dialects.json_text import parse_json
from stars_guard.text.dialects.literals import parse_value
from stars_guard.text.dialects.values import Unfinished, Untyped

ARGUMENTS = ("arguments", "parameters", "args")
"""Keys under which models write the arguments of a call, whatever their template asks for."""
_BESIDE = {"name", "function", "id", "type", "tool_call_id", "index"}
"""Keys that may stand in a call without arguments."""


def call_of(value: Any) -> ReadCall:
    """The call that an object is.

    Raises:
        ValueError: the object is no call, or it is not clear with which arguments.
    """
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise ValueError(f"a call must be a JSON object, got {type(value).__name__}")
    name = value.get("name", value.get("function"))
    given = [value[key] for key in ARGUMENTS if key in value]
    if not any(given) and value.keys() - _BESIDE - {*ARGUMENTS}:
        # Made without arguments, it would do something else than what is written.
        raise ValueError("a call without arguments, but with something else")
    if any(other != given[0] for other in given):
        raise ValueError("a call with two kinds of arguments")
    return name, _arguments(given[0]) if given else {}


def _arguments(value: Any) -> Any:
    """Arguments that some models write as a text with JSON in it; none at all are an empty object."""
    if not isinstance(value, str):
        return {} if value is None else value
    try:
        inner = parse_json(value, partial=False)
    except ValueError:
        return value
    return inner if isinstance(inner, dict) else value


def calls_in(value: Any) -> list[ReadCall]:
    """The calls of an object, or of a list of them.

    Raises:
        ValueError: they are none.
    """
    return [call_of(item) for item in (value if isinstance(value, list) else [value])]


def read_objects(text: str, partial: bool) -> list[ReadCall]:
    """One call or a list of calls, several separated by semicolons.

    Args:
        text: what the model wrote.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: it is no call.
    """
    # Cut first: an unfinished text is read only as far as its first object goes.
    pieces = [piece for piece in _BETWEEN_SEMICOLONS.findall(text) if piece.strip()]
    return [call for piece in pieces or [text] for call in calls_in(parse_value(piece, partial))]


_BETWEEN_SEMICOLONS = re.compile(
    r"""(?:"(?:[^"\\]|\\.)*+(?:"|\\?$)|'(?:[^'\\]|\\.)*+(?:'|\\?$)|[^"';])+""", re.DOTALL
)
"""Stretches between the semicolons that stand outside of strings."""


def read_python(text: str, partial: bool) -> list[ReadCall]:
    """Calls as Python has them, one after the other or in a list; JSON objects as well.

    Args:
        text: what the model wrote.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: it is no call.
    """
    printed = _PRINTED.match(text.strip())
    body = printed[1] if printed else text
    pieces = [piece for piece in re.split(r"(?<=\))\s*\n", body.strip()) if piece.strip()]
    return [call for piece in pieces or [body] for call in read_objects(piece, partial)]


_PRINTED = re.compile(r"print\((.*)\)\Z", re.DOTALL)


def read_tags(text: str, partial: bool) -> ReadCall:
    """``<function=NAME><parameter=KEY>VALUE</parameter>...</function>``.

    Args:
        text: what the model wrote.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: it has no end, though it is finished.
    """
    head, _, body = text.strip().removeprefix("<function=").partition(">")
    if not partial and not body.endswith("</function>"):
        raise ValueError("a call without </function> at its end")
    before, *values = body.removesuffix("</function>").split("<parameter=")
    if before.strip() and not values:  # as Llama 3.1 is told to write calls
        return named_json(head, before, partial)
    if before.strip():
        raise ValueError("a call with something before its parameters")
    pairs = (piece.partition(">") for piece in values)
    return head.strip(), {key.strip(): _tag_value(value, partial) for key, _, value in pairs}


def _tag_value(text: str, partial: bool) -> Untyped:
    # The last mark is the end: one before it is part of what is written, such as a text about such calls.
    value, end, rest = text.rpartition("</parameter>")
    if rest.strip() and end and not partial:
        # The call would be made without it.
        raise ValueError("a call with something behind a parameter")
    if not end or rest.strip():
        value = text
    kind = Unfinished if partial and (not end or rest.strip()) else Untyped
    return kind(value.removeprefix("\n").removesuffix("\n"))


def named_json(name: str, text: str, partial: bool) -> ReadCall:
    """A call whose name stands before its JSON arguments.

    Args:
        name: of the tool.
        text: the arguments.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: the arguments are none.
    """
    if not text.strip():
        if partial:
            return name.strip(), {}
        raise ValueError("a call without arguments")
    return name.strip(), _arguments(parse_value(text, partial))


def json_wrap(key: str, before: str = "", after: str = "") -> Callable[[str], tuple[str, str]]:
    """What stands around the arguments of a call that is a JSON object.

    Args:
        key: of the arguments.
        before: text before the object.
        after: text after it.
    """
    return lambda name: (f'{before}{{"name": {json.dumps(name)}, "{key}": ', f"}}{after}")
