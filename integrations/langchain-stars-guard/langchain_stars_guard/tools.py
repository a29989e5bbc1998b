"""Tools and tool choice, from the forms LangChain users pass to those of the guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from stars_guard import ConfigurationError, Tools
from stars_guard.adapters import offered_tools, tool_choice

ToolLike: TypeAlias = dict[str, Any] | type | Callable[..., Any] | BaseTool
ToolChoice: TypeAlias = str | bool | dict[str, Any] | None


def schemas(tools: Sequence[ToolLike], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """The tools as function schemas. A schema that already is one stays as it is."""
    return [convert_to_openai_tool(tool, strict=strict) for tool in tools]


def bound(tools: Sequence[dict[str, Any]], wanted: ToolChoice) -> str:
    """The tool choice, checked against the schemas.

    Raises:
        ConfigurationError: an unknown form, or not among the tools.
    """
    name = tool_choice(wanted)
    names = [tool["function"]["name"] for tool in tools if "function" in tool]
    if name not in ("auto", "any", "none", *names):
        raise ConfigurationError(f"tool_choice names no tool; give the name of one of the {len(names)} tools")
    return name


def offered(options: Mapping[str, Any]) -> Tools | None:
    """The tools of a call with the options ``tools``, ``tool_choice`` and ``parallel_tool_calls``.

    Raises:
        ConfigurationError: the choice has an unknown form.
        PromptError: the choice names no tool, or a schema is malformed.
    """
    tools = schemas(options.get("tools") or ())
    return offered_tools(tools, options.get("tool_choice"), options.get("parallel_tool_calls"))
