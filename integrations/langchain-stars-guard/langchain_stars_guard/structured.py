"""Answers that must be whole to be data: one that ended early says so, instead of failing to parse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableGenerator

from langchain_stars_guard.answers import HAS_REFUSAL_BLOCK

_WHOLE = (None, "eos", "stop")


def checked() -> Runnable[AIMessage, AIMessage]:
    """Messages as they are; one that ended before it was whole raises an error at its end.

    Raises:
        OutputParserException: names the stop reason.
    """
    return RunnableGenerator(_passed, _apassed)


def _passed(messages: Iterator[AIMessage]) -> Iterator[AIMessage]:
    whole: AIMessage | None = None
    for message in messages:
        whole = _added(whole, message)
        yield message
    _check(whole)


async def _apassed(messages: AsyncIterator[AIMessage]) -> AsyncIterator[AIMessage]:
    whole: AIMessage | None = None
    async for message in messages:
        whole = _added(whole, message)
        yield message
    _check(whole)


def _added(whole: AIMessage | None, message: AIMessage) -> AIMessage:
    return message if whole is None else whole + message  # type: ignore[return-value]


def _check(message: AIMessage | None) -> None:
    reason = message.response_metadata.get("stop_reason") if message is not None else None
    if message is None or reason in _WHOLE:
        return
    if reason == "refused":
        if HAS_REFUSAL_BLOCK:
            return  # langchain-core's own parsers read the block, and raise ModelRefusalError.
        raise OutputParserException("the guard refused this answer (stop_reason 'refused'): there is no data")
    if not message.tool_calls and not _is_object(message.text):
        # Without the text: half of an answer helps nobody, and it may end in a log.
        raise OutputParserException(
            f"the answer ended before it was whole (stop_reason {reason!r}): there is no data; raise "
            "max_tokens, or the budget that ended it"
        )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
