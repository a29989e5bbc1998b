"""Answers as server-sent events: a chunk for each piece that was accepted, and for each call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from starlette.types import Message, Send

from stars_guard.result import GuardedResult, openai_tool_call, token_counts
from stars_guard.server.openai.answers import Json, ResponseHead, filtered
from stars_guard.server.telemetry.exchange import ChoiceEvent, finish_reason
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Channel, ToolCall

ChunksOf: TypeAlias = Callable[[int, ChoiceEvent], list[Json]]
"""Words an event of a choice, whose index comes first: the ``choices`` entry of each chunk to send."""

DONE = b"data: [DONE]\n\n"
_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ],
}


def encoded(value: Json) -> bytes:
    """An event that holds this."""
    # All but ASCII is escaped: many clients also begin a new line at U+2028 or U+0085.
    return b"data: " + json.dumps(value).encode() + b"\n\n"


class EventStream:
    """Writes events to a client; the status goes out with the first.

    Args:
        send: takes the messages of the response.

    Attributes:
        begun: whether anything was sent.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def send(self, event: bytes, *, last: bool = False) -> None:
        """Send an event, encoded; after the ``last`` the stream is over, without ``[DONE]``."""
        await self._write(event, more=not last)

    async def end(self, events: Sequence[bytes]) -> None:
        """Send the last events, and ``[DONE]``."""
        for event in events:
            await self.send(event)
        await self._write(DONE, more=False)

    async def _write(self, body: bytes, *, more: bool) -> None:
        if not self.begun:
            self.begun = True
            await self._send({**_START, "headers": [*_START["headers"]]})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class StreamChunks:
    """The chunks of one streamed response, in the order in which its choices go on.

    Args:
        head: what every chunk begins with.
        chunks_of: words what happens in a choice.
        include_usage: whether a chunk on usage comes last.
    """

    def __init__(self, head: ResponseHead, chunks_of: ChunksOf, *, include_usage: bool) -> None:
        self._head = head
        self._chunks_of = chunks_of
        self._include_usage = include_usage
        self._results: list[GuardedResult] = []

    def size(self, event: ChoiceEvent) -> int:
        """Bytes of the chunks of one event, roughly."""
        return self._head.size([event]) if isinstance(event, GuardedResult) else 0

    def of(self, index: int, event: ChoiceEvent) -> list[bytes]:
        """The chunks of one event, encoded.

        The last chunk of a choice also says what the guard did, and each with forced text that it has some.
        """
        return [encoded(chunk) for chunk in self._chunks(index, event)]

    def _chunks(self, index: int, event: ChoiceEvent) -> Iterator[Json]:
        ending: Json = {}
        if isinstance(event, GuardedResult):
            self._results.append(event)
            ending = self._head.verdict([event])
        elif isinstance(event, Piece | Called) and event.forced:
            ending = {"stars": [{"forced": True}]}
        shown = self._chunks_of(index, event)
        yield from (self._head.chunk([choice]) for choice in shown[:-1])
        yield from (self._head.chunk([choice], **ending) for choice in shown[-1:])

    def closing(self) -> list[bytes]:
        """The chunks after the last choice has ended, encoded."""
        if not self._include_usage:
            return []
        return [encoded(self._head.chunk([], usage=token_counts(*self._results)))]


class ChatDeltas:
    """Words events as chat chunks; the first chunk of each choice says whose turn it is."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._calls: Counter[int] = Counter()

    def __call__(self, index: int, event: ChoiceEvent) -> list[Json]:
        """The chunks of one event."""
        delta = self._delta(index, event)
        if delta is None:
            return []
        deltas = [delta] if index in self._begun else [{"role": "assistant", "content": ""}, delta]
        self._begun.add(index)
        shown = [_choice(index, {"delta": delta}) for delta in deltas]
        if isinstance(event, GuardedResult):
            shown[-1] |= _ending(event)
        return shown

    def _delta(self, index: int, event: ChoiceEvent) -> Json | None:
        if isinstance(event, Piece):
            return {"content" if event.channel is Channel.ANSWER else "reasoning_content": event.text}
        if isinstance(event, Called) and isinstance(event.call, ToolCall):
            self._calls[index] += 1
            return {"tool_calls": [{"index": self._calls[index] - 1, **openai_tool_call(event.call)}]}
        return {} if isinstance(event, GuardedResult) else None


def text_pieces(index: int, event: ChoiceEvent) -> list[Json]:
    """Words an event of choice ``index`` as chunks of a text completion."""
    if isinstance(event, Piece) and event.channel is Channel.ANSWER:
        return [_choice(index, {"text": event.text})]
    if isinstance(event, GuardedResult):
        return [_choice(index, {"text": ""}) | _ending(event)]
    return []


def _choice(index: int, content: Json) -> Json:
    return {"index": index, **content, "logprobs": None, "finish_reason": None}


def _ending(result: GuardedResult) -> Json:
    return {"finish_reason": finish_reason(result), "content_filter_results": filtered(result)}
