"""What is nearly JSON, made JSON: as Python writes values and calls, or with ``<escape>`` around strings."""

from __future__ import annotations

import json
import re
from typing import Any

from stars_guard.text.dialects.json_text import parse_json

_WORD = r"[A-Za-z_][\w.\-]*+"
_TOKEN = re.compile(
    rf"""\s*+(?:
        <escape>(?P<escaped>.*?)(?:(?P<after><escape>)|\Z)
      | "(?P<double>(?:[^"\\]|\\.)*+)(?P<quote>")?
      | '(?P<single>(?:[^'\\]|\\.)*+)(?P<apostrophe>')?
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]))
      | (?P<call>{_WORD})\s*+\(
      | (?P<key>{_WORD})\s*+[:=]
      | (?P<word>{_WORD})
      | ,(?P<last>(?=\s*[)\]}}]))?
      | (?P<mark>[{{}}\[\]():=;])
      | \Z
    )""",
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_CLOSING = {"{": ("}", "}"), "[": ("]", "]"), "(": (")", "]")}
_MARKS = {"=": ":", ":": ":", ";": ","}
_ESCAPE = re.compile(
    r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}


def parse_value(text: str, partial: bool) -> Any:
    """The value of a text in JSON, or nearly so.

    Args:
        text: what the model wrote.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: the text is no value.
    """
    try:
        return parse_json(text, partial)
    except ValueError:
        return parse_json(as_json(text.strip()), partial)


def as_json(text: str) -> str:
    """JSON that says the same; a call ``f(a=1)`` is an object with ``name`` and ``arguments``.

    An unfinished text gives unfinished JSON.

    Args:
        text: values and calls as Python or FunctionGemma write them.

    Raises:
        ValueError: there is something in it that is no part of a value.
    """
    pieces: list[str] = []
    ends: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError("something that is no part of a value")
        place = token.end()
        pieces.append(_piece(token, ends))
    return "".join(pieces)


def _piece(token: re.Match[str], ends: list[tuple[str, str]]) -> str:
    """The JSON of one token; ``ends`` are the closing marks still to come, and what each is in JSON."""
    kind = token.lastgroup
    if kind in ("escaped", "after"):
        return _string(token["escaped"], token["after"])
    if kind in ("double", "quote"):
        return _string(_unescaped(token["double"]), token["quote"])
    if kind in ("single", "apostrophe"):
        return _string(_unescaped(token["single"]), token["apostrophe"])
    if kind == "call":
        ends.append((")", "}}"))
        return f'{{"name": {json.dumps(token["call"])}, "arguments": {{'
    if kind == "key":
        return json.dumps(token["key"]) + ":"
    if kind == "word":
        return _word(token["word"])
    if kind == "mark":
        return _mark(token["mark"], ends)
    return "" if kind == "last" else token[0].strip()


def _mark(mark: str, ends: list[tuple[str, str]]) -> str:
    if mark in _CLOSING:
        ends.append(_CLOSING[mark])
        return "[" if mark == "(" else mark
    if mark in _MARKS:
        return _MARKS[mark]
    expected, written = ends.pop() if ends else ("", "")
    if mark != expected:
        raise ValueError("a bracket that closes nothing")
    return written


def _word(word: str) -> str:
    if word not in _WORDS:
        raise ValueError("a word that is no value")
    return _WORDS[word]


def _string(text: str, end: str | None) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return written if end else written[:-1]


def _unescaped(text: str) -> str:
    """What a string says, by the escapes that JSON and Python have in common."""
    said = _ESCAPE.sub(_character, text) if "\\" in text else text
    # Two halves that escapes wrote apart are one character; a half alone is none.
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    if code:
        return chr(int(code, 16))
    letter = escape[4]
    return _LETTERS.get(letter, letter if letter in "\\'\"/" else escape[0])
