"""Objects limited to the properties that their schema names, wherever in the schema it names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from stars_guard.text.dialects.values import resolved

_CHOICES = ("anyOf", "oneOf")
_SAYS_OTHERWISE = {
    *("additionalProperties", "patternProperties", "propertyNames", "not", "if", "dependentSchemas"),
    *("dependencies", "$dynamicRef", "$recursiveRef"),
}
"""Keywords of an object that may have other properties than those it names."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords whose values hold no schemas."""
_DEEPEST = 16
"""References that are followed one in the other to see what an object may have."""
_Names: TypeAlias = frozenset[str] | None
"""Properties that an object may have; None: any."""


def closed(schema: Any) -> Any:
    """The schema with every object limited to the properties it names, unless it says otherwise.

    An object that several parts describe together (``allOf``, ``anyOf`` beside ``properties``, ``$ref``
    beside either) is limited to what all of them name, so that no part excludes what another one asks for.
    """
    return _Closing(schema).alone(schema)


class _Closing:
    """Limits the objects of one schema.

    Args:
        root: what references refer to.
    """

    def __init__(self, root: Any) -> None:
        self._root = root

    def alone(self, schema: Any) -> Any:
        """The schema, as part of no other one, with every object in it limited."""
        if isinstance(schema, list):
            return [self.alone(item) for item in schema]
        if not isinstance(schema, Mapping):
            return schema
        schema = self._by_name(schema)
        if _describes_together(schema):
            together: _Names = frozenset() if self._names(schema, 0) is not None else None
            return self._part(schema, together, 0)
        return self._limited({key: self._within(key, value) for key, value in schema.items()}, frozenset())

    def _by_name(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The schema by name, of an object whose names are listed or have a pattern."""
        names = schema.get("propertyNames")
        names = (
            resolved(names["$ref"], self._root) if isinstance(names, Mapping) and "$ref" in names else names
        )
        if not isinstance(names, Mapping) or "properties" in schema or "patternProperties" in schema:
            return schema
        value = schema.get("additionalProperties", True)
        rest = {key: schema[key] for key in schema.keys() - {"propertyNames", "additionalProperties"}}
        if isinstance(listed := names.get("enum", [names["const"]] if "const" in names else None), list):
            by_name = {"properties": {str(name): value for name in listed}}
        elif names.keys() <= {"type", "pattern"} and "pattern" in names:
            by_name = {"patternProperties": {names["pattern"]: value}}
        else:
            return schema
        return {**rest, **by_name, "additionalProperties": False}

    def _within(self, key: str, value: Any) -> Any:
        if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, Mapping):
            return {name: self.alone(part) for name, part in value.items()}
        return value if key in _VALUES else self.alone(value)

    def _limited(self, schema: dict[str, Any], names: _Names) -> dict[str, Any]:
        """A schema that may have these properties beside its own."""
        own = schema.get("properties")
        if names is None or not isinstance(own, dict) or _SAYS_OTHERWISE & schema.keys():
            return schema
        if schema.get("unevaluatedProperties") is False:
            schema = {key: value for key, value in schema.items() if key != "unevaluatedProperties"}
        others = dict.fromkeys(sorted(names - own.keys()), True)
        return {**schema, "additionalProperties": False, "properties": {**own, **others}}

    def _part(self, schema: Any, beside: _Names, depth: int) -> Any:
        """One of the parts that describe an object together.

        Args:
            schema: of the part.
            beside: properties that the other parts name; None: no part is limited.
            depth: references followed so far.
        """
        if not isinstance(schema, Mapping):
            return schema
        part = {
            key: self._within(key, value) for key, value in schema.items() if key not in ("allOf", *_CHOICES)
        }
        parts = list(schema.get("allOf") or ())
        if "$ref" in part and beside is not None:
            parts.append(resolved(part.pop("$ref"), self._root))
        everything = None if beside is None else beside | (self._names(schema, depth) or frozenset())
        if parts:
            part["allOf"] = [self._part(inner, everything, depth + 1) for inner in parts]
        for key in _CHOICES:
            if key in schema:
                others = {name: value for name, value in schema.items() if name != key}
                apart = None if beside is None else beside | (self._names(others, depth) or frozenset())
                part[key] = [self._part(choice, apart, depth + 1) for choice in schema[key]]
        return self._limited(part, everything)

    def _names(self, schema: Any, depth: int) -> _Names:
        """The properties that all parts of a schema name together."""
        if not isinstance(schema, Mapping):
            return frozenset()
        if _SAYS_OTHERWISE & schema.keys() or depth > _DEEPEST:
            return None
        parts = [part for key in ("allOf", *_CHOICES) for part in schema.get(key) or ()]
        if "$ref" in schema:
            parts.append(resolved(schema["$ref"], self._root))
        names = [frozenset(schema.get("properties") or ()), *(self._names(part, depth + 1) for part in parts)]
        return None if None in names else frozenset().union(*filter(None, names))


def _describes_together(schema: Mapping[str, Any]) -> bool:
    """Whether several parts of a schema describe the same value."""
    choices = sum(key in schema for key in _CHOICES)
    parts = [key for key in ("properties", "$ref") if key in schema]
    return "allOf" in schema or choices + len(parts) > 1
