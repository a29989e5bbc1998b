"""From LlamaIndex's messages and tools to those of the guard."""

from __future__ import annotations

import logging
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
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import ToolSelection

from stars_guard import Message, MessageToolCall, PromptError, Tools, adapters
from stars_guard.adapters import past_tool_call

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

log = logging.getLogger("stars_guard.llama_index")

_ROLES = {
    MessageRole.DEVELOPER: "system",
    MessageRole.FUNCTION: "tool",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}
_NOT_TEXT = (CachePoint, ThinkingBlock, ToolCallBlock)
_MEDIA = ("image", "audio", "video", "document")
"""Types of block that other models read."""


def core_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """The conversation as chat templates take it; neighbours of one role become one message.

    Past reasoning is left out, as chat templates do. What an assistant said in an earlier turn is taken as
    far as it makes sense, whichever LLM it was.

    Raises:
        PromptError: what a user or a tool says is other than text.
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
    core = Message(role=role, content="\n".join(_texts(message.blocks, past=role == "assistant")))
    if calls := _tool_calls(message):
        core["tool_calls"] = calls
    if role == "tool":
        core["tool_call_id"] = str(message.additional_kwargs.get("tool_call_id", ""))
        if name := message.additional_kwargs.get("name"):
            core["name"] = str(name)
    return core


def _texts(blocks: Sequence[ContentBlock], *, past: bool) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block, CitableBlock):
            yield from _texts(block.content, past=past)
        elif isinstance(block, CitationBlock):
            yield from _texts([block.cited_content], past=past)
        elif past:
            yield from [f"[{block.block_type}]"] if block.block_type in _MEDIA else []
        elif not isinstance(block, _NOT_TEXT):
            raise PromptError(
                f"a message holds {block.block_type}, and this model reads only text; leave it out"
            )


def _tool_calls(message: ChatMessage) -> list[MessageToolCall]:
    """The calls of a message: its blocks, or else what older code leaves in ``additional_kwargs``."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [past_tool_call(block.tool_call_id, block.tool_name, block.tool_kwargs) for block in blocks]
    older = message.additional_kwargs.get("tool_calls")
    calls = older if isinstance(older, Sequence) else ()
    return [made for call in calls if (made := _older_tool_call(call)) is not None]


def _older_tool_call(call: Any) -> MessageToolCall | None:
    """A call as OpenAI has it, or as objects of its library; None for what is none."""
    if isinstance(call, ToolSelection):
        return past_tool_call(call.tool_id, call.tool_name, call.tool_kwargs)
    if isinstance(call, BaseModel):
        call = call.model_dump()
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        log.debug("what an additional_kwargs['tool_calls'] holds is no call, and was left out")
        return None
    return past_tool_call(call.get("id"), function["name"], function.get("arguments"))
