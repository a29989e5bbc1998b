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
from stars_guard.server.entry.disconnect import CancellableResponse
from stars_guard.server.openai.answers import Json, ResponseHead
from stars_guard.server.openai.faults import fault_of
from stars_guard.server.openai.sse import ChunksOf, EventStream, StreamChunks, encoded
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest
from stars_guard.server.service import Service, unanswered
from stars_guard.server.telemetry.exchange import ChoiceEvent, Exchange, Outcome
from stars_guard.text.transcript import Called, Piece

_GONE = 499
"""Status in the logs of a request whose client closed the connection, and so gets none."""
READING = 60.0
"""Seconds that a client may take to read, beyond those for waiting and writing."""
NumberedEvent: TypeAlias = tuple[int, ChoiceEvent]
"""An event, with the number of its choice in front."""


@dataclass(frozen=True)
class ResponseForm:
    """How an endpoint words its responses, whole and streamed."""

    prefix: str
    """Prefix of response ids."""
    kind: str
    """The ``object`` of a response."""
    choice: Callable[[GuardedResult, int], Json]
    """Words a whole choice, given its index."""
    chunks: Callable[[], ChunksOf]
    """What words the events of one stream."""


class Generation:
    """Answers requests of one endpoint.

    Args:
        service: what requests share.
        form: how the endpoint words its responses.
    """

    def __init__(self, service: Service, form: ResponseForm) -> None:
        self._service = service
        self._form = form

    def answer(
        self, http: HttpRequest, body: ChatRequest | CompletionRequest, requests: Sequence[Request]
    ) -> Response:
        """The response, whole or as a stream; nothing happens before it is sent.

        Sending it raises a ``Fault``, or an error of the guard, if nothing of it was sent yet.

        Args:
            http: the request as it came.
            body: its fields.
            requests: what the guard is asked, once for each choice.
        """
        exchange: Exchange = http.scope["state"]["exchange"]
        exchange.stream = stream = bool(body.stream)
        traced = bool(body.stars and body.stars.trace)
        head = ResponseHead(
            self._form.prefix + exchange.id,
            self._service.config.served_name,
            self._form.kind,
            trace_bytes=self._service.config.traces.max_request_bytes if traced else 0,
        )
        usage = bool(body.stream_options and body.stream_options.include_usage)
        chunks = StreamChunks(head, self._form.chunks(), include_usage=usage)
        send = partial(self._streamed, chunks) if stream else partial(self._whole, head)
        limits = self._service.config.limits
        return CancellableResponse(
            partial(self._failing, exchange, partial(send, exchange, requests)),
            partial(_left, exchange),
            limits.queue_seconds + limits.max_seconds + READING,
        )

    async def _failing(self, exchange: Exchange, answering: Callable[[Send], Any], send: Send) -> None:
        """Note how an answer failed, whoever says so to the client."""
        try:
            await answering(send)
        except Exception as error:
            exchange.error, exchange.outcome = error, fault_of(error).outcome
            raise

    async def _whole(
        self, head: ResponseHead, exchange: Exchange, requests: Sequence[Request], send: Send
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
        response = await self._service.workers.run(head.size(results), self._response, head, results)
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    def _response(self, head: ResponseHead, results: Sequence[GuardedResult]) -> JSONResponse:
        choices = [self._form.choice(result, index) for index, result in enumerate(results)]
        return JSONResponse(head.whole(choices, results))

    async def _streamed(
        self, chunks: StreamChunks, exchange: Exchange, requests: Sequence[Request], send: Send
    ) -> None:
        stream = EventStream(send)
        try:
            await self._tell(chunks, exchange, requests, stream)
        except Exception as error:
            if not stream.begun:
                raise
            # The status was sent, so the failure is said in the stream.
            fault = fault_of(error)
            exchange.error, exchange.outcome = error, fault.outcome
            await stream.send(encoded(fault.body()), last=True)

    async def _tell(
        self, chunks: StreamChunks, exchange: Exchange, requests: Sequence[Request], stream: EventStream
    ) -> None:
        held: list[NumberedEvent] = []
        async with self._service.answering(exchange, requests) as events:
            async for index, event in events:
                held.append((index, event))
                # Until there is something to show, a failure can still have a status of its own.
                if stream.begun or _shows(event):
                    await self._show(chunks, exchange, held, stream)
        if not stream.begun and (failure := unanswered(exchange.results)):
            raise failure
        await self._show(chunks, exchange, held, stream)
        await stream.end(chunks.closing())

    async def _show(
        self, chunks: StreamChunks, exchange: Exchange, held: list[NumberedEvent], stream: EventStream
    ) -> None:
        for index, event in held:
            if exchange.delivered is None and isinstance(event, Piece | Called):
                exchange.delivered = time.monotonic()
            for chunk in await self._service.workers.run(chunks.size(event), chunks.of, index, event):
                await stream.send(chunk)
        held.clear()


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
