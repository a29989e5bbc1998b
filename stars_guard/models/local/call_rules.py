"""Rules of llguidance's Lark for the calls of a dialect, as its model would write them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from stars_guard.models.local.schemas import json_rule, served
from stars_guard.text.dialects import ArgumentFields, Dialect
from stars_guard.text.dialects.values import resolved

_ANY_TEXT = "/(.|\\n)*/"
_OF_TEXT = {"type", "enum", "const", "title", "description", "default", "examples", "deprecated", "$comment"}
"""Keywords of a text that rules of ours keep; a text with others is written within JSON."""


class CallRules:
    """Collects the rules of one grammar.

    Args:
        dialect: how the model writes calls.
        special_token: the id of a token that the grammar does not know as text; None for any other text.
    """

    def __init__(self, dialect: Dialect, special_token: Callable[[str], int | None]) -> None:
        self._dialect = dialect
        self._special_token = special_token
        marks = sorted({*dialect.marks(tools=True), *dialect.inside}, key=len, reverse=True)
        self._marks = re.compile("(" + "|".join(map(re.escape, marks)) + ")")
        self.rules: list[str] = []
        """All so far, each on its line."""

    def named(self, body: str) -> str:
        """The name of a new rule."""
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}: {body}")
        return name

    def literal(self, text: str) -> str:
        """A text, with the marks in it by their ids where they are tokens that the grammar does not know."""
        pieces = [piece for piece in self._marks.split(text) if piece]
        numbers = [self._special_token(piece) for piece in pieces]
        return " ".join(
            json.dumps(piece) if number is None else f"<[{number}]>"
            for piece, number in zip(pieces, numbers, strict=True)
        )

    def text_until(self, mark: str) -> str:
        """Any text, and the mark that ends it."""
        known = self.literal(mark)
        if known.startswith("<["):
            return f"{_ANY_TEXT} {known}"
        name = f"text{len(self.rules)}"
        self.rules.append(f"{name}[suffix={known}]: {_ANY_TEXT}")
        return name

    def any_of(self, functions: list[Mapping[str, Any]]) -> str:
        """A call of one of the functions, marks included."""
        calls = " | ".join(self._call(function) for function in functions)
        closing = self.literal(self._dialect.call_close or "")
        return self.named(f"{self.literal(self._dialect.opening)} ({calls}) {closing}")

    def _call(self, function: Mapping[str, Any]) -> str:
        name = function["name"]
        given = function.get("parameters") or {"type": "object", "properties": {}}
        schema = served(given, f"the schema of tool {name!r}")
        wrap, arguments = self._dialect.wrap, None
        if self._dialect.fields is not None:
            arguments = self._fields(schema, self._dialect.fields)
            wrap = self._dialect.fields.as_object if arguments is None else wrap
        before, after = map(self.literal, wrap(name))
        return self.named(
            f"{before} {self.named(json_rule(schema)) if arguments is None else arguments} {after}"
        )

    def _fields(self, schema: Any, fields: ArgumentFields) -> str | None:
        """The arguments one by one; None where the schema says more of the object than which ones it has."""
        named = schema.get("properties") or {}
        properties = {name: part for name, part in named.items() if part is not False}
        required = set(schema.get("required") or ())
        known = {"type", "properties", "required", "additionalProperties", "$defs", "definitions", "title"}
        if schema.keys() - known - {"description", "$schema"} or required - properties.keys():
            return None
        rules = []
        for name, part in properties.items():
            value = self._value(part, schema, fields)
            if value is None:
                return None
            rules.append((self.named(f"{self.literal(fields.before(name))} ({value})"), name in required))
        return self._joined(rules, self.literal(fields.between))

    def _joined(self, rules: list[tuple[str, bool]], between: str) -> str:
        """Fields in their order, those that are not required or not, with a separator between two."""
        first, later = "", ""
        for rule, required in reversed(rules):
            first = (
                f"{rule} {later}"
                if required
                else f"({rule} {later} | {first})"
                if first
                else f"({rule} {later})?"
            )
            first, later = self.named(first), self._later(f"{between} {rule}", required, later)
        return first

    def _later(self, rule: str, required: bool, later: str) -> str:
        return self.named(f"{rule} {later}" if required else f"({rule})? {later}")

    def _value(self, schema: Any, root: Mapping[str, Any], fields: ArgumentFields) -> str | None:
        """One value with what ends it; None where a text must be such as only JSON strings are held to."""
        end = self.literal(fields.after)
        definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
        choices = []
        for leaf in _leaves(schema, root, 0):
            if fields.text is None or not _may_be_text(leaf):
                whole = {**leaf, **definitions} if isinstance(leaf, Mapping) else leaf
                choices.append(f"{self.named(json_rule(whole))} {end}")
            elif leaf.keys() <= _OF_TEXT and isinstance(leaf.get("type", "string"), str):
                choices.append(self._text(leaf, fields))
            else:
                return None
        return " | ".join(choices)

    def _text(self, leaf: Mapping[str, Any], fields: ArgumentFields) -> str:
        """A value that is a text between marks."""
        before, after = fields.text or ("", "")
        listed = leaf.get("enum", [leaf["const"]] if "const" in leaf else None)
        if listed is None:
            return f"{self.literal(before)} {self.text_until(after + fields.after)}"
        return " | ".join(self.literal(before + str(text) + after + fields.after) for text in listed)


def _leaves(schema: Any, root: Mapping[str, Any], depth: int) -> list[Any]:
    """The alternatives of a schema, references followed."""
    if isinstance(schema, Mapping) and depth < 16:
        if "$ref" in schema and len(schema.keys() - _OF_TEXT) == 1:
            return _leaves(resolved(schema["$ref"], root), root, depth + 1)
        if "anyOf" in schema and not schema.keys() - _OF_TEXT - {"anyOf"}:
            return [leaf for part in schema["anyOf"] for leaf in _leaves(part, root, depth + 1)]
    return [schema]


def _may_be_text(schema: Any) -> bool:
    """Whether a schema has a place for texts, as far as can be seen at once."""
    if not isinstance(schema, Mapping):
        return False  # any value is written as JSON
    if "enum" in schema or "const" in schema:
        listed = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
        return any(isinstance(value, str) for value in listed)
    kinds = schema.get("type", "string")
    return "string" in kinds if isinstance(kinds, list) else kinds == "string"
