"""Answers as server-sent events: a chunk for each piece that was accepted, and for each call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeAlias

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from stars_guard.result import GuardedResult
from stars_guard.server.answers import Head, Json, call, filtered, finish_reason, guardrails, stars, usage
from stars_guard.server.choices import Happened
from stars_guard.server.faults import fault_of
from stars_guard.transcript import Called, Piece
from stars_guard.types import Channel, ToolCall

Events: TypeAlias = AsyncIterator[tuple[int, Happened]]
ChunksOf: TypeAlias = Callable[[int, Happened], list[Json]]
"""The choices, one for each chunk, that something that happened is shown as."""

DONE = b"data: [DONE]\n\n"


class ChatDeltas:
    """Chat chunks; the first of each choice says whose turn it is."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._calls: Counter[int] = Counter()

    def __call__(self, index: int, event: Happened) -> list[Json]:
        """The chunks of one event."""
        delta = self._delta(index, event)
        if delta is None:
            return []
        deltas = [delta] if index in self._begun else [{"role": "assistant", "content": ""}, delta]
        self._begun.add(index)
        shown = [_choice(index, {"delta": one}) for one in deltas]
        if isinstance(event, GuardedResult):
            shown[-1] |= _ending(event)
        return shown

    def _delta(self, index: int, event: Happened) -> Json | None:
        if isinstance(event, Piece):
            return {"content" if event.channel is Channel.ANSWER else "reasoning_content": event.text}
        if isinstance(event, Called) and isinstance(event.call, ToolCall):
            self._calls[index] += 1
            return {"tool_calls": [call(event.call, self._calls[index] - 1)]}
        return {} if isinstance(event, GuardedResult) else None


def text_pieces(index: int, event: Happened) -> list[Json]:
    """Chunks of a text completion."""
    if isinstance(event, Piece) and event.channel is Channel.ANSWER:
        return [_choice(index, {"text": event.text})]
    if isinstance(event, GuardedResult):
        return [_choice(index, {"text": ""}) | _ending(event)]
    return []


def _choice(index: int, content: Json) -> Json:
    return {"index": index, **content, "logprobs": None, "finish_reason": None}


def _ending(result: GuardedResult) -> Json:
    return {"finish_reason": finish_reason(result), "content_filter_results": filtered(result)}


async def encoded(
    events: Events, head: Head, chunks_of: ChunksOf, *, include_usage: bool
) -> AsyncIterator[bytes]:
    """The whole stream; a failure on the way is an error object, and then there is no ``[DONE]``."""
    results: list[GuardedResult] = []
    try:
        async for index, event in events:
            extra: Json = {}
            if isinstance(event, GuardedResult):
                results.append(event)
                extra = {"guardrails": guardrails([event]), "stars": [stars(event)]}
            shown = chunks_of(index, event)
            for number, choice in enumerate(shown, start=1):
                yield _event(head.chunk([choice], **(extra if number == len(shown) else {})))
    except Exception as error:  # noqa: BLE001 - the status was sent, so it is said in the stream
        yield _event(fault_of(error).body())
        return
    if include_usage:
        yield _event(head.chunk([], usage=usage(results)))
    yield DONE


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


class EventStream(StreamingResponse):
    """A stream that is closed at its end, also when the client went away in the middle."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()
