"""``/v1/chat/completions`` and ``/v1/completions``: one request from its fields to its response."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import Send

from stars_guard.loop.events import Request
from stars_guard.result import GuardedResult
from stars_guard.server.choices import Happened
from stars_guard.server.entry.disconnect import Watched
from stars_guard.server.openai.answers import Head, Json
from stars_guard.server.openai.faults import fault_of
from stars_guard.server.openai.sse import ChunksOf, EventStream, Story
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest
from stars_guard.server.service import Service, unanswered
from stars_guard.server.telemetry.exchange import Exchange, Outcome
from stars_guard.text.transcript import Called, Piece

_GONE = 499
"""For logs: the client closed the connection. Nobody is there to get it."""
READING = 60.0
"""Seconds that a client may take to read, beyond those for waiting and writing."""
Happening: TypeAlias = tuple[int, Happened]


@dataclass(frozen=True)
class Form:
    """How an endpoint words its responses."""

    prefix: str
    """Of response ids."""
    kind: str
    """The ``object`` of a response."""
    choice: Callable[[GuardedResult, int], Json]
    """A whole choice."""
    chunks: Callable[[], ChunksOf]
    """What makes the chunks of one stream."""


class Generation:
    """Answers requests in one form."""

    def __init__(self, service: Service, form: Form) -> None:
        self._service = service
        self._form = form

    def answer(
        self, http: HttpRequest, asked: ChatRequest | CompletionRequest, requests: Sequence[Request]
    ) -> Response:
        """The response, whole or as a stream; nothing happens before it is sent.

        Sending it raises a ``Fault``, or an error of the guard, if nothing of it was sent yet.
        """
        exchange: Exchange = http.scope["state"]["exchange"]
        exchange.stream = stream = bool(asked.stream)
        head = Head(
            self._form.prefix + exchange.id,
            self._service.config.served_name,
            self._form.kind,
            with_trace=bool(asked.stars and asked.stars.trace),
        )
        usage = bool(asked.stream_options and asked.stream_options.include_usage)
        story = Story(head, self._form.chunks(), include_usage=usage)
        send = partial(self._streamed, story) if stream else partial(self._whole, head)
        limits = self._service.config.limits
        return Watched(
            partial(self._told, exchange, partial(send, exchange, requests)),
            partial(_left, exchange),
            limits.queue_seconds + limits.max_seconds + READING,
        )

    async def _told(self, exchange: Exchange, answering: Callable[[Send], Any], send: Send) -> None:
        """Note how an answer failed, whoever says so to the client."""
        try:
            await answering(send)
        except Exception as error:
            exchange.error, exchange.outcome = error, fault_of(error).outcome
            raise

    async def _whole(self, head: Head, exchange: Exchange, requests: Sequence[Request], send: Send) -> None:
        found: dict[int, GuardedResult] = {}
        async with self._service.answering(exchange, requests) as events:
            async for index, event in events:
                if isinstance(event, GuardedResult):
                    found[index] = event
        results = [found[index] for index in range(len(requests))]
        if failure := unanswered(results):
            raise failure
        exchange.delivered = time.monotonic()
        choices = [self._form.choice(result, index) for index, result in enumerate(results)]
        response = JSONResponse(head.whole(choices, results))
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _streamed(
        self, story: Story, exchange: Exchange, requests: Sequence[Request], send: Send
    ) -> None:
        stream = EventStream(send)
        try:
            await self._tell(story, exchange, requests, stream)
        except Exception as error:
            if not stream.begun:
                raise
            # The status was sent, so the failure is said in the stream.
            fault = fault_of(error)
            exchange.error, exchange.outcome = error, fault.outcome
            await stream.send(fault.body(), last=True)

    async def _tell(
        self, story: Story, exchange: Exchange, requests: Sequence[Request], stream: EventStream
    ) -> None:
        held: list[Happening] = []
        async with self._service.answering(exchange, requests) as events:
            async for index, event in events:
                held.append((index, event))
                # Until there is something to show, a failure can still have a status of its own.
                if stream.begun or _shows(event):
                    await self._show(story, exchange, held, stream)
        if not stream.begun and (failure := unanswered(exchange.results)):
            raise failure
        await self._show(story, exchange, held, stream)
        await stream.end(story.closing())

    async def _show(
        self, story: Story, exchange: Exchange, held: list[Happening], stream: EventStream
    ) -> None:
        for index, event in held:
            if exchange.delivered is None and isinstance(event, Piece | Called):
                exchange.delivered = time.monotonic()
            for chunk in story.chunks(index, event):
                await stream.send(chunk)
        held.clear()


def _shows(event: Happened) -> bool:
    """Whether the client gets something of it."""
    if isinstance(event, GuardedResult):
        return unanswered([event]) is None
    return isinstance(event, Piece | Called)


def _left(exchange: Exchange) -> None:
    """The client went away; what had ended before that has ended as it did."""
    if exchange.outcome is None or not exchange.status:
        exchange.outcome = Outcome.CANCELLED
    exchange.status = exchange.status or _GONE
