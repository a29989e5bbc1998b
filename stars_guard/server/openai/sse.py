"""Answers as server-sent events: a chunk for each piece that was accepted, and for each call."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from starlette.types import Message, Send

from stars_guard.loop.events import Request
from stars_guard.result import GuardedResult, openai_tool_call, token_counts
from stars_guard.server.openai.answers import Json, ResponseHead, chat_choice, filtered, text_choice
from stars_guard.server.openai.faults import Fault
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, StreamOptions
from stars_guard.server.telemetry.exchange import ChoiceEvent, finish_reason
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Channel, ToolCall

ChunksOf: TypeAlias = Callable[[int, ChoiceEvent], list[Json]]
"""Words an event of a choice, whose index comes first: the ``choices`` entry of each chunk to send."""

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"
"""Line that clients skip, and that keeps proxies from closing a silent connection."""
FORCED: Json = {"stars": [{"forced": True}]}
"""What an event says that holds forced text."""
_START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ],
}


def encoded(value: Json, name: str = "") -> bytes:
    """An event that holds this, with the name of its kind where the protocol names them."""
    # All but ASCII is escaped: many clients also begin a new line at U+2028 or U+0085.
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(value)}\n\n".encode()


class EventStream:
    """Writes events to a client; the status goes out with the first.

    Args:
        send: takes the messages of the response.
        headers: of the response, besides those of every stream.

    Attributes:
        begun: whether anything was sent.
    """

    def __init__(self, send: Send, headers: Mapping[str, str] | None = None) -> None:
        self._send = send
        self._headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self._turn = asyncio.Lock()
        self._silent_since = time.monotonic()
        self.begun = False

    async def send(self, event: bytes, *, last: bool = False) -> None:
        """Send an event, encoded; after the ``last`` the stream is over."""
        async with self._turn:
            if not self.begun:
                self.begun = True
                await self._send({**_START, "headers": [*_START["headers"], *self._headers]})
            await self._send({"type": "http.response.body", "body": event, "more_body": not last})
            self._silent_since = time.monotonic()

    async def end(self, events: Sequence[bytes]) -> None:
        """Send the last events, one at least."""
        for event in events[:-1]:
            await self.send(event)
        await self.send(events[-1], last=True)

    @asynccontextmanager
    async def kept_alive(self, event: bytes, seconds: float) -> AsyncIterator[None]:
        """Send ``event``, too, whenever nothing was sent for so many seconds."""
        self._silent_since = time.monotonic()
        speaking = asyncio.create_task(self._speak(event, seconds))
        try:
            yield
        finally:
            # Not while it sends: half an event would be left.
            async with self._turn:
                speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, event: bytes, seconds: float) -> None:
        while True:
            wait = self._silent_since + seconds - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self.send(event)


class CompletionWords:
    """A completion as the OpenAI API words it: one piece, or chunks in the order in which its choices go on.

    Args:
        head: what every chunk begins with.
        kind: ``object`` of the whole response.
        choice: words a whole choice, given its index.
        chunks_of: words what happens in a choice.
        include_usage: whether a chunk on usage comes last.
    """

    keep_alive = COMMENT

    def __init__(
        self,
        head: ResponseHead,
        kind: str,
        choice: Callable[[GuardedResult, int], Json],
        chunks_of: ChunksOf,
        *,
        include_usage: bool,
    ) -> None:
        self._head = head
        self._kind = kind
        self._choice = choice
        self._chunks_of = chunks_of
        self._include_usage = include_usage
        self._results: list[GuardedResult] = []

    def whole(self, results: Sequence[GuardedResult]) -> Json:
        """The response in one piece."""
        choices = [self._choice(result, at) for at, result in enumerate(results)]
        closing = {"usage": token_counts(*results), **self._head.verdict(results)}
        return {**self._common(self._kind), "choices": choices, **closing}

    def events(self, index: int, event: ChoiceEvent) -> list[bytes]:
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
            ending = FORCED
        shown = self._chunks_of(index, event)
        yield from (self._chunk([choice]) for choice in shown[:-1])
        yield from (self._chunk([choice], **ending) for choice in shown[-1:])

    def _chunk(self, choices: Sequence[Json], **more: Any) -> Json:
        kind = "chat.completion.chunk" if self._kind == "chat.completion" else self._kind
        return {**self._common(kind), "choices": list(choices), **more}

    def _common(self, kind: str) -> Json:
        head = self._head
        return {"id": head.id, "object": kind, "created": head.created, "model": head.model}

    def closing(self) -> list[bytes]:
        """The chunks after the last choice has ended, encoded, and the end of the stream."""
        if not self._include_usage:
            return [DONE]
        return [encoded(self._chunk([], usage=token_counts(*self._results))), DONE]

    def failed(self, fault: Fault) -> list[bytes]:
        """The end of a stream that failed, encoded."""
        return [encoded(fault.body())]


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


def chat_words(body: ChatRequest, head: ResponseHead, _: Sequence[Request]) -> CompletionWords:
    """Words for the response to a chat request.

    Args:
        body: the fields of the request.
        head: what every response holds.
    """
    return CompletionWords(
        head, "chat.completion", chat_choice, ChatDeltas(), include_usage=_usage_wanted(body.stream_options)
    )


def text_words(body: CompletionRequest, head: ResponseHead, _: Sequence[Request]) -> CompletionWords:
    """Words for the continuation of a text.

    Args:
        body: the fields of the request.
        head: what every response holds.
    """
    return CompletionWords(
        head, "text_completion", text_choice, text_pieces, include_usage=_usage_wanted(body.stream_options)
    )


def _usage_wanted(options: StreamOptions | None) -> bool:
    return bool(options and options.include_usage)
