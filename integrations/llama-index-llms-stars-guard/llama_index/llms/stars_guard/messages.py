"""From LlamaIndex's messages and tools to those of the guard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import ToolSelection

from stars_guard import Message, MessageToolCall, PromptError, Tools, adapters
from stars_guard.adapters import past_tool_call

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_ROLES = {
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}
_NOT_TEXT = (CachePoint, ThinkingBlock, ToolCallBlock)


def core_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """The conversation as chat templates take it; neighbours of one role become one message.

    Past reasoning is left out, as chat templates do.

    Raises:
        PromptError: a message holds something other than text and tool calls.
    """
    return adapters.merged_turns(map(_core_message, messages))


def tool_schemas(tools: Sequence[BaseTool]) -> list[dict[str, Any]]:
    """The tools as plain data, in the form that chat templates take."""
    return [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]


def tool_choice(choice: str | Mapping[str, Any] | None, required: bool) -> str:
    """LlamaIndex's ways to choose a tool, as the guard says it: auto, any, none, or a tool's name."""
    return adapters.tool_choice("required" if choice is None and required else choice)


def core_tools(kwargs: dict[str, Any]) -> Tools | None:
    """Take what belongs to tools out of ``kwargs``.

    Raises:
        ConfigurationError, PromptError: the choice names no tool, or a schema has no name.
    """
    schemas = kwargs.pop("tools", None)
    choice = kwargs.pop("tool_choice", None)
    parallel = kwargs.pop("allow_parallel_tool_calls", None)
    return adapters.offered_tools(schemas, choice, parallel)


def tool_selections(message: ChatMessage) -> list[ToolSelection]:
    """The valid tool calls of a message."""
    return [
        ToolSelection(tool_id=call["id"], tool_name=call["function"]["name"], tool_kwargs=arguments)
        for call in _tool_calls(message)
        for arguments in [call["function"]["arguments"]]
    ]


def _core_message(message: ChatMessage) -> Message:
    role = _ROLES.get(message.role, message.role.value)
    core = Message(role=role, content="\n".join(_texts(message.blocks)))
    if calls := _tool_calls(message):
        core["tool_calls"] = calls
    if role == "tool":
        core["tool_call_id"] = str(message.additional_kwargs.get("tool_call_id", ""))
        if name := message.additional_kwargs.get("name"):
            core["name"] = str(name)
    return core


def _texts(blocks: Sequence[ContentBlock]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content)
        elif isinstance(block, CitationBlock):
            yield from _texts([block.cited_content])
        elif not isinstance(block, _NOT_TEXT):
            raise PromptError(
                f"a message holds {block.block_type}, and this model reads only text; leave it out"
            )


def _tool_calls(message: ChatMessage) -> list[MessageToolCall]:
    """The calls of a message: its blocks, or else what older code leaves in ``additional_kwargs``."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [past_tool_call(block.tool_call_id, block.tool_name, block.tool_kwargs) for block in blocks]
    return [_older_tool_call(call) for call in message.additional_kwargs.get("tool_calls") or []]


def _older_tool_call(call: Any) -> MessageToolCall:
    if isinstance(call, ToolSelection):
        return past_tool_call(call.tool_id, call.tool_name, call.tool_kwargs)
    try:
        function = call["function"]
        return past_tool_call(call.get("id"), function["name"], function.get("arguments", {}))
    except (TypeError, KeyError) as error:
        raise PromptError(
            "a message's additional_kwargs['tool_calls'] must be a list of "
            '{"id": ..., "function": {"name": ..., "arguments": ...}}; use ToolCallBlock instead'
        ) from error
