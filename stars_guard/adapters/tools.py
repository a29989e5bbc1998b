"""Tools, tool choice and response formats, from the forms of OpenAI's API to those of the guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Tools

_CHOICES = {None: "auto", "required": "any", True: "any", False: "none"}


def offered_tools(
    schemas: Sequence[Mapping[str, Any]] | None, choice: object = None, parallel: bool | None = None
) -> Tools | None:
    """The tools of a call; None where none are offered.

    Args:
        schemas: ``{"type": "function", "function": {"name", "description", "parameters"}}`` each.
        choice: in any form that :func:`tool_choice` takes.
        parallel: whether one answer may make several calls; None is yes.

    Raises:
        ConfigurationError: the choice has an unknown form.
        PromptError: the choice names no tool, or a schema is malformed.
    """
    if not schemas:
        return None
    return Tools(tuple(schemas), tool_choice(choice), parallel is not False)


def tool_choice(choice: object) -> str:
    """``auto``, ``any``, ``none`` or a tool's name, from any form that frameworks pass.

    Args:
        choice: None (``auto``), True and ``required`` (``any``), False (``none``), a text, or a dict that
            names the tool, under ``name`` or in OpenAI's form.

    Raises:
        ConfigurationError: an unknown form.
    """
    if isinstance(choice, Mapping):
        name = choice.get("name") or choice.get("function", {}).get("name")
        if isinstance(name, str):
            return name
    elif choice is None or isinstance(choice, str | bool):
        return _CHOICES.get(choice) or str(choice)
    raise ConfigurationError(
        f"tool_choice, {_kind(choice)}, is not understood; use 'auto', 'any', 'none', a tool's name, or "
        '{"type": "function", "function": {"name": ...}}: this names no tool'
    )


def requested_schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON schema in a ``response_format`` of OpenAI's API; None where any text will do.

    Raises:
        ConfigurationError: an unknown form.
    """
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise ConfigurationError(
        f"response_format, {_kind(response_format)}, is not understood; use "
        '{"type": "json_schema", "json_schema": {"schema": ...}} or {"type": "json_object"}'
    )


def _kind(value: object) -> str:
    """Type of what a call passed, which may hold texts of users."""
    return f"of type {type(value).__name__}"
