"""Schemas as pydantic and hand-written tools have them: served as they are, or one error with the place."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, Base64Bytes, BaseModel, EmailStr, Field, SecretStr, TypeAdapter, create_model

from stars_guard.errors import PromptError
from stars_guard.models.local.closed import closed
from stars_guard.models.local.schemas import served

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


def object_of(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.mark.parametrize(
    "kind",
    [
        *(set[str], frozenset[int], Path, SecretStr, bytes, dict[Colour, int], dict[str, int], Any, Decimal),
        *(UUID, date, timedelta, AnyUrl, IPv4Address, Base64Bytes, tuple[int, str], tuple[int, ...], complex),
        *(list[Cat | Dog], Annotated[Cat | Dog, Field(discriminator="kind")], dict[Literal["a"], str]),
        *(dict[Annotated[str, Field(pattern="^x")], int], Annotated[list[int], Field(min_length=1)]),
        *(Annotated[int, Field(multiple_of=2, gt=0)], Colour | None, bool | None, int | str, EmailStr),
    ],
    ids=str,
)
def test_fields_of_pydantic_are_served(kind):
    try:
        model = create_model("Answer", x=(kind, Field(default=..., examples=[1], title="X", description="x")))
    except ImportError as error:
        pytest.skip(str(error))
    schema = model.model_json_schema()
    assert served(schema, "the schema")["properties"].keys() == {"x"}
    # By reference as well.
    outer = create_model("Outer", inner=(model, ...), others=(list[model], ...)).model_json_schema()
    assert served(outer, "the schema")["properties"].keys() == {"inner", "others"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "prefixItems": [INTEGER, TEXT], "items": False},
        {"$defs": {"A": {"$anchor": "here", "type": "integer"}}, "$ref": "#here"},
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://a.b/c",
            "type": "integer",
        },
        {
            "type": "integer",
            "default": 3,
            "examples": [1],
            "title": "t",
            "deprecated": True,
            "x-own": {"not": 1},
        },
        {"type": "object", "additionalProperties": INTEGER, "minProperties": 1},
        {"type": "string", "format": "date-time", "readOnly": True, "$comment": "when"},
        {"anyOf": [INTEGER, {"type": "null"}], "discriminator": {"propertyName": "x"}},
        {"oneOf": [INTEGER, {"type": "number"}]},
        {"type": "object", "patternProperties": {"^a": INTEGER}},
    ],
)
def test_what_the_grammar_takes_is_passed_unchanged(schema):
    assert served(schema, "the schema") == schema


@pytest.mark.parametrize(
    ("schema", "passed"),
    [
        ({"type": "string", "format": "path", "writeOnly": True}, {"type": "string", "writeOnly": True}),
        ({"type": "array", "items": TEXT, "uniqueItems": True}, {"type": "array", "items": TEXT}),
        ({"anyOf": [{"type": "string", "pattern": "(?=a)"}, INTEGER]}, {"anyOf": [INTEGER]}),
        (
            {"type": "object", "additionalProperties": INTEGER, "propertyNames": {"const": "a"}},
            {"type": "object", "properties": {"a": INTEGER}, "additionalProperties": False},
        ),
        (
            {"type": "object", "propertyNames": {"pattern": "^a"}},
            {"type": "object", "patternProperties": {"^a": True}, "additionalProperties": False},
        ),
        (
            {**object_of(a=INTEGER), "unevaluatedProperties": False},
            {**object_of(a=INTEGER), "additionalProperties": False},
        ),
    ],
)
def test_what_only_annotates_is_left_out_where_it_must_be(schema, passed):
    assert served(schema, "the schema") == passed


@pytest.mark.parametrize(
    ("schema", "place", "keyword"),
    [
        (object_of(a={"type": "nonsense"}), "/properties/a", "type"),
        (object_of(a={"type": "array", "items": {"not": TEXT}}), "/properties/a/items", "not"),
        (object_of(a={"type": "array", "contains": INTEGER}), "/properties/a", "contains"),
        (object_of("a", a={"type": "integer", "minimum": 5, "maximum": 3}), "/properties/a", "maximum"),
        (object_of("a/b~", **{"a/b~": {"enum": []}}), "/properties/a~1b~0", "enum"),
        (object_of(a={"$ref": "https://elsewhere/x"}), "/properties/a", "$ref"),
        (object_of(a={"allOf": [TEXT, {"pattern": "(?=a)"}]}), "/properties/a/allOf/1", "pattern"),
        (object_of(a={"anyOf": [{"not": TEXT}, {"pattern": "(?=a)"}]}), "/properties/a/anyOf/0", "not"),
        ({"$defs": {"A": object_of(b={"not": TEXT})}, "$ref": "#/$defs/A"}, "/$defs/A/properties/b", "not"),
        ({**object_of(a=TEXT, b=TEXT), "dependentRequired": {"a": ["b"]}}, "its top", "dependentRequired"),
        ({"if": {}, "then": TEXT}, "its top", "if"),
        ({"type": "object", "propertyNames": {"minLength": 3}}, "its top", "propertyNames"),
        ({"type": "object", "propertyNames": {"minLength": 3}, "properties": {}}, "its top", "propertyNames"),
    ],
)
def test_what_cannot_be_kept_is_one_error_that_names_the_place(schema, place, keyword):
    with pytest.raises(PromptError, match="cannot be used for constrained decoding") as caught:
        served(schema, "the schema of tool 'paint'")
    assert f"the keyword '{keyword}' at {place} is not served" in str(caught.value)
    assert str(caught.value).startswith("the schema of tool 'paint' ")


def test_a_definition_that_nothing_refers_to_does_no_harm():
    schema = {"$defs": {"A": {"not": TEXT}}, **object_of(a={"type": "string", "format": "path"})}
    assert served(schema, "the schema")["properties"] == {"a": TEXT}


def test_what_is_wrong_with_a_huge_schema_is_not_looked_for_without_end():
    properties = {f"p{number}": {"type": "string", "format": f"own{number}"} for number in range(600)}
    with pytest.raises(PromptError, match="the keyword 'properties' at its top"):
        served(object_of(**properties), "the schema")


A, B, C = object_of("a", a=INTEGER), object_of("b", b=INTEGER), object_of("c", c=INTEGER)
RECURSIVE = {"$defs": {"N": object_of(n={"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]})}}


def accepts(schema: dict[str, Any], answer: Any) -> bool:
    """Whether an answer fits a schema, for the keywords that are used here."""
    jsonschema = pytest.importorskip("jsonschema")
    return bool(jsonschema.Draft202012Validator(schema).is_valid(answer))


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"allOf": [A, B]}, [{"a": 1, "b": 2}], [{"a": 1}, {"a": 1, "b": 2, "x": 3}]),
        (
            {"$defs": {"A": A}, "allOf": [{"$ref": "#/$defs/A"}], **B},
            [{"a": 1, "b": 2}],
            [{"b": 2}, {"a": 1, "b": 2, "x": 3}],
        ),
        ({"$defs": {"A": A}, "$ref": "#/$defs/A", **B}, [{"a": 1, "b": 2}], [{"a": 1, "b": 2, "x": 3}]),
        (
            {**object_of(a=INTEGER), "anyOf": [B, C]},
            [{"a": 1, "b": 2}, {"c": 3}],
            [{"a": 1}, {"b": 2, "c": 3, "x": 4}],
        ),
        ({**A, "anyOf": [B, C], "oneOf": [{"required": ["a"]}, False]}, [{"a": 1, "b": 2}], [{"b": 1}]),
        ({"anyOf": [A, B]}, [{"a": 1}, {"b": 1}], [{"a": 1, "x": 1}]),
        ({"allOf": [{**RECURSIVE, "$ref": "#/$defs/N"}], **RECURSIVE}, [{"n": {"n": None}}], [{"x": 1}]),
        ({"allOf": [A, {"additionalProperties": INTEGER}]}, [{"a": 1, "x": 1}], [{"x": 1}]),
        ({"allOf": [True, A]}, [{"a": 1}], [{"a": 1, "x": 1}]),
        (
            {"$defs": {"L": {"allOf": [{"$ref": "#/$defs/L"}]}}, "allOf": [{"$ref": "#/$defs/L"}, A]},
            [{"a": 1}],
            [{}],
        ),
        ({**A, "additionalProperties": True}, [{"a": 1, "x": 1}], [{}]),
    ],
)
def test_an_object_has_what_all_its_parts_name_and_no_more(schema, right, wrong):
    limited = closed(schema)
    if "L" not in json.dumps(schema):
        assert all(accepts(limited, answer) for answer in right)
        assert not any(accepts(limited, answer) for answer in wrong)
        assert all(accepts(schema, answer) for answer in right)
    if "false" not in json.dumps(schema) and "L" not in json.dumps(schema):
        assert served(schema, "the schema") == limited


def test_values_that_look_like_schemas_are_left_alone():
    schema = {"enum": [{"properties": {}}], "default": {"properties": {}}}
    assert closed(schema) == schema
    assert TypeAdapter(int).json_schema() == closed(INTEGER)
