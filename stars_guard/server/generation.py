"""One request for an answer, by whichever door it came, from what it asks of the guard to its response."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeAlias

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import Send

from stars_guard.loop.events import Request
from stars_guard.result import GuardedResult
from stars_guard.server.entry.disconnect import CancellableResponse
from stars_guard.server.openai.answers import Json, ResponseHead
from stars_guard.server.openai.faults import Fault, fault_of
from stars_guard.server.openai.sse import EventStream
from stars_guard.server.openai.translate import Asked
from stars_guard.server.openai.wire import AnswerRequest
from stars_guard.server.service import Service, unanswered
from stars_guard.server.telemetry.exchange import ChoiceEvent, Exchange, Outcome
from stars_guard.text.transcript import Called, Piece

_GONE = 499
"""Status in the logs of a request whose client closed the connection, and so gets none."""
READING = 60.0
"""Seconds that a client may take to read, beyond those for waiting and writing."""
NumberedEvent: TypeAlias = tuple[int, ChoiceEvent]
"""An event, with the number of its choice in front."""


class Words(Protocol):
    """The words in which a door says one response; made anew for each."""

    @property
    def keep_alive(self) -> bytes:
        """What a stream that is silent for long sends, and clients skip."""

    def whole(self, results: Sequence[GuardedResult]) -> Json:
        """The response in one piece, given the result of each choice."""

    def events(self, index: int, event: ChoiceEvent) -> list[bytes]:
        """What a stream sends of one event of choice ``index``, encoded."""

    def closing(self) -> list[bytes]:
        """What it sends once the last choice has ended, encoded; one event at least."""

    def failed(self, fault: Fault) -> list[bytes]:
        """What it sends instead where it fails, encoded; one event at least."""


Wording: TypeAlias = Callable[[Any, ResponseHead, Sequence[Request]], Words]
"""Words for a response, given the fields of its request, what all responses hold, and what is asked."""


@dataclass(frozen=True)
class Door:
    """An endpoint that answers."""

    prefix: str
    """Prefix of response ids."""
    words: Wording
    fields: Mapping[str, str] = field(default_factory=dict)
    """What it calls fields of a chat request, where it has other names for them."""


class Generation:
    """Answers requests, whichever door they came by.

    Args:
        service: what requests share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def answer(self, http: HttpRequest, body: AnswerRequest, asked: Asked, door: Door) -> Response:
        """The response, whole or as a stream; nothing happens before it is sent.

        Sending it raises a ``Fault``, or an error of the guard, if nothing of it was sent yet.

        Args:
            http: the request as it came.
            body: its fields.
            asked: what the guard is asked.
            door: which way it came.
        """
        exchange: Exchange = http.scope["state"]["exchange"]
        exchange.stream = stream = bool(body.stream)
        head = self._head(exchange, body, asked, door)
        words = door.words(body, head, asked.requests)
        send = partial(self._streamed if stream else self._whole, head, words)
        limits = self._service.config.limits
        return CancellableResponse(
            partial(self._failing, exchange, partial(send, exchange, asked.requests)),
            partial(_left, exchange),
            limits.queue_seconds + limits.max_seconds + READING,
        )

    def _head(self, exchange: Exchange, body: AnswerRequest, asked: Asked, door: Door) -> ResponseHead:
        config = self._service.config
        traced = bool(body.stars and body.stars.trace)
        return ResponseHead(
            door.prefix + exchange.id,
            config.served_name,
            asked.length,
            trace_bytes=config.traces.max_request_bytes if traced else 0,
        )

    async def _failing(self, exchange: Exchange, answering: Callable[[Send], Any], send: Send) -> None:
        """Note how an answer failed, whoever says so to the client."""
        try:
            await answering(send)
        except Exception as error:
            exchange.error, exchange.outcome = error, fault_of(error).outcome
            raise

    async def _whole(
        self, head: ResponseHead, words: Words, exchange: Exchange, requests: Sequence[Request], send: Send
    ) -> None:
        ended: dict[int, GuardedResult] = {}
        async with self._service.answering(exchange, requests) as events:
            async for index, event in events:
                if isinstance(event, GuardedResult):
                    ended[index] = event
        results = [ended[index] for index in range(len(requests))]
        if failure := unanswered(results):
            raise failure
        exchange.delivered = time.monotonic()
        response = await self._service.workers.run(head.size(results), _written, head, words, results)
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _streamed(
        self, head: ResponseHead, words: Words, exchange: Exchange, requests: Sequence[Request], send: Send
    ) -> None:
        stream = EventStream(send, head.headers)
        try:
            await self._tell(head, words, exchange, requests, stream)
        except Exception as error:
            if not stream.begun:
                raise
            # The status was sent, so the failure is said in the stream.
            fault = fault_of(error)
            exchange.error, exchange.outcome = error, fault.outcome
            await stream.end(words.failed(fault))

    async def _tell(
        self,
        head: ResponseHead,
        words: Words,
        exchange: Exchange,
        requests: Sequence[Request],
        stream: EventStream,
    ) -> None:
        held: list[NumberedEvent] = []
        shows, seconds = False, self._service.config.limits.keep_alive_seconds
        # Only once it is admitted: that there is no room has a status of its own.
        async with (
            self._service.answering(exchange, requests) as events,
            stream.kept_alive(words.keep_alive, seconds),
        ):
            async for index, event in events:
                held.append((index, event))
                shows = shows or _shows(event)
                # Until there is something to show, a failure can still have a status of its own.
                if shows:
                    await self._show(head, words, exchange, held, stream)
        if not shows and (failure := unanswered(exchange.results)):
            raise failure
        await self._show(head, words, exchange, held, stream)
        await stream.end(words.closing())

    async def _show(
        self,
        head: ResponseHead,
        words: Words,
        exchange: Exchange,
        held: list[NumberedEvent],
        stream: EventStream,
    ) -> None:
        for index, event in held:
            if exchange.delivered is None and isinstance(event, Piece | Called):
                exchange.delivered = time.monotonic()
            size = head.size([event]) if isinstance(event, GuardedResult) else 0
            for said in await self._service.workers.run(size, words.events, index, event):
                await stream.send(said)
        held.clear()


def _written(head: ResponseHead, words: Words, results: Sequence[GuardedResult]) -> JSONResponse:
    return JSONResponse(words.whole(results), headers=head.headers)


def _shows(event: ChoiceEvent) -> bool:
    """Whether the client gets to see something of an event."""
    if isinstance(event, GuardedResult):
        return unanswered([event]) is None
    return isinstance(event, Piece | Called)


def _left(exchange: Exchange) -> None:
    """Note that the client went away; a request that had ended before that has ended as it did."""
    if exchange.outcome is None or not exchange.status:
        exchange.outcome = Outcome.CANCELLED
    exchange.status = exchange.status or _GONE
