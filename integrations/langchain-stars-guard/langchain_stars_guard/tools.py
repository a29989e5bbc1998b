"""Tools, tool choice and response formats, from the forms LangChain users pass to those of the guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from stars_guard import ConfigurationError
from stars_guard.prompts import Tools

ToolLike: TypeAlias = dict[str, Any] | type | Callable[..., Any] | BaseTool
ToolChoice: TypeAlias = str | bool | dict[str, Any] | None

_CHOICES = {None: "auto", "required": "any", True: "any", False: "none"}


def schemas(tools: Sequence[ToolLike], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """The tools as function schemas. A schema that already is one stays as it is."""
    return [convert_to_openai_tool(tool, strict=strict) for tool in tools]


def bound(tools: Sequence[dict[str, Any]], wanted: ToolChoice) -> str:
    """The tool choice, checked against the schemas.

    Raises:
        ConfigurationError: an unknown form, or not among the tools.
    """
    name = choice(wanted)
    names = [tool["function"]["name"] for tool in tools if "function" in tool]
    if name not in ("auto", "any", "none", *names):
        raise ConfigurationError(f"tool_choice={wanted!r} names no tool; the tools are: {', '.join(names)}")
    return name


def offered(options: Mapping[str, Any]) -> Tools | None:
    """The tools of a call with the options ``tools``, ``tool_choice`` and ``parallel_tool_calls``.

    Raises:
        ConfigurationError: the choice has an unknown form.
        PromptError: the choice names no tool, or a schema is malformed.
    """
    if not options.get("tools"):
        return None
    parallel = options.get("parallel_tool_calls")
    return Tools(
        schemas=tuple(schemas(options["tools"])),
        choice=choice(options.get("tool_choice")),
        parallel=True if parallel is None else parallel,
    )


def choice(wanted: ToolChoice) -> str:
    """``auto``, ``any``, ``none`` or a tool's name, from any form that LangChain users pass.

    Raises:
        ConfigurationError: an unknown form.
    """
    if isinstance(wanted, Mapping):
        name = wanted.get("function", {}).get("name")
        if isinstance(name, str):
            return name
    elif wanted is None or isinstance(wanted, str | bool):
        return _CHOICES.get(wanted) or str(wanted)
    raise ConfigurationError(
        f"tool_choice={wanted!r} is not understood; use 'auto', 'any', 'none', a tool's name, or "
        '{"type": "function", "function": {"name": ...}}'
    )


def response_schema(wanted: Any) -> dict[str, Any] | None:
    """The JSON schema in a ``response_format``, which has the form that OpenAI's API takes.

    Raises:
        ConfigurationError: an unknown form.
    """
    match wanted:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
    raise ConfigurationError(
        f"response_format={wanted!r} is not understood; use "
        '{"type": "json_schema", "json_schema": {"schema": ...}} or {"type": "json_object"}'
    )
