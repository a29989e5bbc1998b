"""Values that are nearly JSON, and the types that a schema gives to values without one."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stars_guard.text.dialects import Untyped
from stars_guard.text.dialects.literals import parse_value
from stars_guard.text.dialects.values import property_schema

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_what_python_and_json_write_is_read(value):
    assert parse_value(repr(value), False) == value
    assert parse_value(json.dumps(value), False) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{a: <escape>x " y<escape>, b: [<escape><escape>]}', {"a": 'x " y', "b": [""]}),
        ("f(a=1, b='x')", {"name": "f", "arguments": {"a": 1, "b": "x"}}),
        (
            "[f(), g.h(a=(1, 2,))]",
            [{"name": "f", "arguments": {}}, {"name": "g.h", "arguments": {"a": [1, 2]}}],
        ),
        (r"'a\x62\u0063\n\'\q\/'", "abc\n'\\q/"),
        (r"'\ud83d\ude00 \ud83d'", "\U0001f600 \ufffd"),
        ("{'a': True, 'b': None, 'c': false}", {"a": True, "b": None, "c": False}),
    ],
)
def test_near_json(text, value):
    assert parse_value(text, False) == value


@pytest.mark.parametrize(
    "text",
    ["", "word", "{a}", "f(1)", "f(a=1", "f(a=1]", "[1)", "}", "'open", "<escape>open", "NaN", "1e999", "@"],
)
def test_no_value(text):
    with pytest.raises(ValueError, match=r"."):
        parse_value(text, False)


def test_what_is_there_of_an_unfinished_value():
    assert parse_value("{'a': [1, 'tw", True) == {"a": [1, "tw"]}
    assert parse_value("f(a=<escape>on", True) == {"name": "f", "arguments": {"a": "on"}}


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Part(BaseModel):
    n: int


class Arguments(BaseModel):
    whole: int
    maybe: int | None = None
    text: str
    maybe_text: str | None = None
    either: int | str
    number: int | float
    size: Size
    choice: Literal[1, 2] | None = None
    part: Part
    parts: list[Part]
    anything: Any = None
    switch: bool


SCHEMA = Arguments.model_json_schema()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("whole", "5", 5),
        ("whole", "5.0", 5),
        ("whole", "1e3", 1000),
        ("whole", "5.5", "5.5"),
        ("whole", "five", "five"),
        ("whole", "NaN", "NaN"),
        ("maybe", "5", 5),
        ("maybe", "null", None),
        ("maybe", "None", None),
        ("text", "5", "5"),
        ("text", "null", "null"),
        ("text", '{"a": 1}', '{"a": 1}'),
        ("maybe_text", "null", None),
        ("maybe_text", "nullify", "nullify"),
        ("either", "5", "5"),
        ("number", "7", 7),
        ("number", "7.5", 7.5),
        ("size", "small", "small"),
        ("size", '"small"', "small"),
        ("size", "huge", "huge"),
        ("choice", "2", 2),
        ("choice", "null", None),
        ("part", '{"n": 3}', {"n": 3}),
        ("part", "{'n': 3}", {"n": 3}),
        ("part", "null", "null"),
        ("parts", '[{"n": 3}]', [{"n": 3}]),
        ("anything", "5", "5"),
        ("anything", "null", "null"),
        ("switch", "true", True),
        ("switch", "True", True),
        ("switch", "1", "1"),
    ],
)
def test_the_type_that_pydantic_writes_in_a_schema(name, text, value):
    typed = Untyped(text).typed(SCHEMA["properties"][name], SCHEMA)
    assert (typed, type(typed)) == (value, type(value))


LOOP = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": ["string", "null"]}, "123", "123"),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "string", "nullable": True}, "null", None),
        ({"enum": [1, True]}, "true", True),
        ({"enum": [1]}, "true", "true"),
        ({"const": 3}, "3", 3),
        ({"const": 3, "enum": [3, 4]}, "4", "4"),
        ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, "5", 5),
        ({"allOf": [{"type": "integer"}], "description": "many"}, "5", 5),
        ({"$ref": "#/a~1b/c", "a/b": {"c": {"type": "integer"}}}, "5", 5),
        ({"$ref": "#/nowhere/1", "type": "integer"}, "5", 5),
        ({"type": "integer"}, "true", "true"),
        (False, "5", "5"),
        (True, "5", "5"),
        (None, "null", "null"),
        (LOOP, "5", "5"),
        ({"type": "nonsense"}, "5", "5"),
        ({"anyOf": "nonsense", "enum": None}, "5", "5"),
        # Looked at one by one, as often as they are referred to, these parts would be 16 ** 16.
        ({"allOf": [{"$ref": "#"}] * 16}, "5", "5"),
    ],
)
def test_the_type_that_a_schema_says(schema, text, value):
    typed = Untyped(text).typed(schema)
    assert (typed, type(typed)) == (value, type(value))


INTEGER = {"type": "integer"}
ARGUMENTS = {"type": "object", "properties": {"n": INTEGER}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (ARGUMENTS, INTEGER),
        ({"$ref": "#/$defs/A", "$defs": {"A": ARGUMENTS}}, INTEGER),
        ({"allOf": [{"type": "object"}, ARGUMENTS]}, INTEGER),
        ({"oneOf": [{"properties": {"m": {}}}, ARGUMENTS]}, INTEGER),
        ({"anyOf": [ARGUMENTS, {"properties": {"n": {"const": 3}}}]}, {"anyOf": [INTEGER, {"const": 3}]}),
        ({"type": "object", "additionalProperties": INTEGER}, INTEGER),
        ({"properties": {"n": INTEGER}, "additionalProperties": False}, INTEGER),
        ({"allOf": [{"$ref": "#"}], "properties": {"m": {}}, "additionalProperties": False}, None),
        (True, None),
    ],
)
def test_what_a_schema_says_of_an_argument_wherever_it_says_so(schema, said):
    assert property_schema(schema, "n", schema) == said
