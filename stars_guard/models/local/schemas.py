"""JSON schemas as they are handed to llguidance: as they were given, wherever it takes them.

What it takes is found out by compiling. Keywords that only annotate are left out where it refuses them, a
choice is left out of ``anyOf`` and ``oneOf`` where another one can be served, and ``oneOf`` is served as
``anyOf``. ``uniqueItems`` and formats that it does not know are not enforced: whoever parses the answer
checks them. Anything else is one error that names the place and the keyword.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher

from stars_guard.errors import PromptError
from stars_guard.models.local.closed import closed

# A small model that may write blanks between tokens for ever does.
_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,
}
_BY_NAME = ("properties", "patternProperties", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not")
_DEFINITIONS = ("$defs", "definitions")
_ASSERTIONS = {
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "pattern"),
    *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
    *("patternProperties", "additionalProperties", "properties", "required", "items", "prefixItems"),
    *("type", "enum", "const", "allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "$recursiveRef"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "additionalItems"),
}
"""Keywords that say what a value must be. Left out, they would be broken unseen; any other only annotates, or
is checked by whoever parses the answer."""
_MOST_COMPILED = 500
"""Parts that are compiled to find out what is wrong with a schema, each within about a millisecond."""


def json_rule(schema: Any) -> str:
    """The rule of llguidance's Lark for JSON by a schema."""
    return f"%json {json.dumps({**(schema if isinstance(schema, Mapping) else {}), 'x-guidance': _STYLE})}"


def served(schema: Any, whose: str) -> Any:
    """The schema to be enforced: each object is limited to the properties it names, unless it says otherwise.

    Args:
        schema: as it was given.
        whose: it is, for the error.

    Raises:
        PromptError: a part of it cannot be enforced; the error names the part and the keyword.
    """
    text, problem = _served(json.dumps(schema))
    if problem is not None:
        place, keyword, reason = problem
        raise PromptError(
            f"{whose} cannot be used for constrained decoding: the keyword {keyword!r} at "
            f"{place or 'its top'} is not served; leave it out, or say it in another way"
        ) from ValueError(reason)
    return json.loads(text)


@lru_cache(maxsize=256)  # schemas come again with every request of an application
def _served(text: str) -> tuple[str, tuple[str, str, str] | None]:
    """The schema to be enforced, as text; or what is wrong with it."""
    schema = closed(json.loads(text))
    try:
        return json.dumps(_Mending(schema).mended()), None
    except _NotServedError as error:
        return "", (error.place, error.keyword, error.reason)


class _NotServedError(Exception):
    """A part of a schema cannot be enforced."""

    def __init__(self, place: str, keyword: str, reason: str) -> None:
        super().__init__()
        self.place, self.keyword, self.reason = place, keyword, reason


def _problem(schema: Any) -> str:
    """What llguidance has against a schema; empty if it takes it."""
    grammar = LLMatcher.grammar_from_lark(f"start: answer\nanswer: {json_rule(schema)}")
    return str(LLMatcher.validate_grammar(grammar, None)).strip()


class _Mending:
    """Leaves out of one schema what only annotates and is refused, from the innermost part outwards.

    Args:
        schema: the whole.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._definitions = {
            key: schema[key]
            for key in _DEFINITIONS
            if isinstance(schema, Mapping) and isinstance(schema.get(key), Mapping)
        }
        self._left = _MOST_COMPILED

    def mended(self) -> Any:
        """The schema that is taken.

        Raises:
            _NotServedError: there is none.
        """
        if not _problem(self._schema):
            return self._schema
        refused = None
        for key, definitions in self._definitions.items():
            for name, definition in definitions.items():
                try:
                    mended = self._mend(definition, f"/{key}/{_escaped(name)}")
                except _NotServedError as error:
                    # Of no harm where the definition is not referred to.
                    refused = refused or error
                else:
                    self._definitions[key] = {**self._definitions[key], name: mended}
        try:
            return {**self._mend(self._schema, ""), **self._definitions}
        except _NotServedError as error:
            raise (refused or error) from None

    def _against(self, schema: Mapping[str, Any]) -> str:
        """What is wrong with a part, taken by itself."""
        self._left -= 1
        if self._left < 0:
            raise _NotServedError("", "properties", "too large a schema to say what is wrong with it")
        return _problem({**schema, **self._definitions})

    def _mend(self, schema: Any, place: str) -> Any:
        if not isinstance(schema, Mapping) or not self._against(schema):
            return schema
        mended = {key: self._inner(key, value, f"{place}/{_escaped(key)}") for key, value in schema.items()}
        if not self._against(mended):
            return mended
        bare = {key: value for key, value in mended.items() if key in _ASSERTIONS or key in _DEFINITIONS}
        if not (reason := self._against(bare)):
            return _without_refused(mended, bare, self._against)
        raise _NotServedError(place, self._culprit(bare), reason)

    def _culprit(self, schema: dict[str, Any]) -> str:
        """The first keyword that the part is not taken with, in the order in which they stand."""
        keys = list(schema)
        return next(key for number, key in enumerate(keys, 1) if self._fails(schema, keys[:number]))

    def _fails(self, schema: dict[str, Any], keys: list[str]) -> bool:
        return bool(self._against({key: schema[key] for key in keys}))

    def _inner(self, key: str, value: Any, place: str) -> Any:
        """The value of a keyword, with every schema in it mended."""
        if key in _BY_NAME and isinstance(value, Mapping):
            return {name: self._mend(part, f"{place}/{_escaped(name)}") for name, part in value.items()}
        if key in ("anyOf", "oneOf") and isinstance(value, list):
            return self._choices(value, place)
        if key in _LISTS and isinstance(value, list):
            return [self._mend(part, f"{place}/{number}") for number, part in enumerate(value)]
        return self._mend(value, place) if key in _SINGLE else value

    def _choices(self, choices: list[Any], place: str) -> list[Any]:
        """The choices that can be served: every answer by one of them fits the whole."""
        kept: list[Any] = []
        refused = None
        for number, choice in enumerate(choices):
            try:
                kept.append(self._mend(choice, f"{place}/{number}"))
            except _NotServedError as error:
                refused = refused or error
        if refused is not None and not kept:
            raise refused
        return kept


def _without_refused(
    schema: Mapping[str, Any], bare: dict[str, Any], against: Callable[[Mapping[str, Any]], str]
) -> dict[str, Any]:
    """The schema with those of its annotations that are taken."""
    kept = dict(bare)
    for key, value in schema.items():
        if key not in kept and not against({**kept, key: value}):
            kept[key] = value
    return kept


def _escaped(name: str) -> str:
    """A name as JSON pointers have it."""
    return name.replace("~", "~0").replace("/", "~1")
