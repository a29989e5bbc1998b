"""Arguments that were written without a type, given the type that the tool's schema has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.text.dialects.literals import parse_value

_DEEPEST = 32
"""Most parts of a schema that are looked into one in the other; one may refer to itself."""
_UNBOUNDED: dict[str, Any] = {}
_ANYTHING = object()
"""A value that only a schema without bounds takes."""


class Untyped(str):
    """An argument that was written without a type; the tool's schema says what it is."""

    unfinished = False
    """Whether its end is not written yet."""

    def typed(self, schema: Any, root: Any = None) -> Any:
        """The value as the schema of this argument has it; the text itself where that does not fit.

        Args:
            schema: of the argument.
            root: what its references refer to; the schema itself by default.
        """
        root = schema if root is None else root
        text = str(self)
        # Null first: an optional text that is left out is written so. Any other word, number or object is a
        # text where the schema takes one.
        if text in ("null", "None") and allows(schema, None, root) and not allows(schema, _ANYTHING, root):
            return None
        if allows(schema, text, root):
            return text
        try:
            value = _whole(parse_value(text, self.unfinished))
        except ValueError:
            return text
        return value if allows(schema, value, root) else text


class Unfinished(Untyped):
    """An untyped argument that may go on."""

    unfinished = True


def _whole(value: Any) -> Any:
    """A number without a fraction as an integer: schemas tell the two apart by their value."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def allows(schema: Any, value: Any, root: Any, depth: int = 0, known: dict[int, bool] | None = None) -> bool:
    """Whether a schema takes a value, as far as types, constants, choices and references go.

    Args:
        schema: a JSON schema.
        value: as JSON has it.
        root: what references refer to.
        depth: parts that this schema is within.
        known: what is known of other parts, by their id. Each is looked at once, however many refer to it.
    """
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return schema is not False
    known = {} if known is None else known
    if id(schema) not in known:
        known[id(schema)] = True  # so one that refers to itself says nothing more
        known[id(schema)] = _takes(schema, value, root, depth + 1, known)
    return known[id(schema)]


def _takes(schema: Mapping[str, Any], value: Any, root: Any, depth: int, known: dict[int, bool]) -> bool:
    choices = [_schemas(schema, key) for key in ("anyOf", "oneOf") if _schemas(schema, key)]
    return (
        _is_of(value, schema)
        and _is_constant(value, schema)
        and all(allows(part, value, root, depth, known) for part in _together(schema, root))
        and all(any(allows(part, value, root, depth, known) for part in choice) for choice in choices)
    )


def _together(schema: Mapping[str, Any], root: Any) -> list[Any]:
    """The schemas that hold all together with this one."""
    parts = [resolved(schema["$ref"], root)] if "$ref" in schema else []
    return parts + _schemas(schema, "allOf")


def property_schema(schema: Any, name: str, root: Any) -> Any:
    """What the schema of an object says of one property, wherever it says so; None where it says nothing.

    Args:
        schema: of the object.
        name: of the property.
        root: what references refer to.
    """
    stated: list[Any] = []
    parts, seen = [schema], set()
    for part in parts:  # grows as it goes
        if isinstance(part, Mapping) and id(part) not in seen:
            seen.add(id(part))
            stated += _stated(part, name)
            parts += _together(part, root)
            for key in ("anyOf", "oneOf"):
                parts += _schemas(part, key)
    return stated[0] if len(stated) == 1 else {"anyOf": stated} if stated else None


def resolved(reference: Any, root: Any) -> Any:
    """The schema that a reference within a schema refers to; one without bounds where there is none.

    Args:
        reference: a JSON pointer behind ``#``.
        root: the whole schema.
    """
    schema = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        schema = schema.get(key, _UNBOUNDED) if isinstance(schema, Mapping) else _UNBOUNDED
    return schema


def _stated(schema: Mapping[str, Any], name: str) -> list[Any]:
    """What this schema itself says of a property."""
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return [properties[name]]
    others = schema.get("additionalProperties")
    return [others] if isinstance(others, Mapping) else []


def _schemas(schema: Mapping[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _is_of(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether the value is of a type that the schema names, if it names any."""
    given = schema.get("type")
    if given is None or (value is None and schema.get("nullable") is True):
        return True
    kinds = given if isinstance(given, list) else [given]
    return any(isinstance(value, _TYPES.get(str(kind), object)) for kind in kinds) and (
        not isinstance(value, bool) or "boolean" in kinds
    )


_TYPES: dict[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}


def _is_constant(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether the value is one that the schema lists, if it lists any."""
    listed = _schemas(schema, "enum") if "enum" in schema else None
    if "const" in schema:
        listed = [choice for choice in (listed or [schema["const"]]) if choice == schema["const"]]
    # True equals 1 in Python, but not in JSON.
    return listed is None or any(
        value == choice and isinstance(value, bool) is isinstance(choice, bool) for choice in listed
    )
