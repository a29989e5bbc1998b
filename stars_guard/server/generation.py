"""``/v1/chat/completions`` and ``/v1/completions``: one request from its fields to its response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from stars_guard.job import Request
from stars_guard.result import GuardedResult
from stars_guard.server.answers import Head, Json
from stars_guard.server.choices import Happened
from stars_guard.server.exchange import Exchange, Outcome
from stars_guard.server.faults import fault_of
from stars_guard.server.service import Service, unanswered, until_gone
from stars_guard.server.sse import ChunksOf, EventStream, encoded
from stars_guard.transcript import Called, Piece


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

    async def answer(
        self, http: HttpRequest, requests: Sequence[Request], *, stream: bool, include_usage: bool
    ) -> Response:
        """The response, whole or as a stream.

        Raises:
            Fault: there is no room, or nothing was accepted in time.
            StarsGuardError: the guard failed before anything was sent.
        """
        exchange: Exchange = http.scope["state"]["exchange"]
        exchange.stream, exchange.model = stream, self._service.config.served_name
        head = Head(self._form.prefix + exchange.id, exchange.model, self._form.kind)
        try:
            if stream:
                return await self._streamed(exchange, requests, head, include_usage)
            return await self._whole(exchange, requests, head, http)
        except Exception as error:
            exchange.error, exchange.outcome = error, fault_of(error).outcome
            raise

    async def _whole(
        self, exchange: Exchange, requests: Sequence[Request], head: Head, http: HttpRequest
    ) -> Response:
        gone = asyncio.create_task(until_gone(http.receive))
        work = asyncio.create_task(self._results(exchange, requests))
        try:
            await asyncio.wait([gone, work], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                exchange.outcome = Outcome.CANCELLED
                return Response(status_code=499)
            results = work.result()
        finally:
            for task in (gone, work):
                task.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)
        if failure := unanswered(results):
            raise failure
        exchange.delivered = time.monotonic()
        choices = [self._form.choice(result, index) for index, result in enumerate(results)]
        return JSONResponse(head.whole(choices, results))

    async def _results(self, exchange: Exchange, requests: Sequence[Request]) -> list[GuardedResult]:
        found: dict[int, GuardedResult] = {}
        async with self._service.answering(exchange, requests) as events:
            async for index, event in events:
                if isinstance(event, GuardedResult):
                    found[index] = event
        return [found[index] for index in range(len(requests))]

    async def _streamed(
        self, exchange: Exchange, requests: Sequence[Request], head: Head, include_usage: bool
    ) -> Response:
        events = self._events(exchange, requests)
        # The status is sent before the first event, so what fails until then still gets its own.
        first = await anext(events)
        if isinstance(first[1], GuardedResult) and (failure := unanswered([first[1]])):
            await events.aclose()
            raise failure
        chunks = encoded(_after(first, events), head, self._form.chunks(), include_usage=include_usage)
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return EventStream(chunks, headers=headers)

    async def _events(
        self, exchange: Exchange, requests: Sequence[Request]
    ) -> AsyncGenerator[tuple[int, Happened], None]:
        """The events of a request, which holds its place until they are read or dropped."""
        async with AsyncExitStack() as held:
            try:
                events = await held.enter_async_context(self._service.answering(exchange, requests))
                async for index, event in events:
                    if exchange.delivered is None and isinstance(event, Piece | Called):
                        exchange.delivered = time.monotonic()
                    yield index, event
            except (asyncio.CancelledError, GeneratorExit):
                exchange.outcome = Outcome.CANCELLED
                raise
            except Exception as error:
                exchange.error, exchange.outcome = error, fault_of(error).outcome
                raise


async def _after(
    first: tuple[int, Happened], rest: AsyncGenerator[tuple[int, Happened], None]
) -> AsyncIterator[tuple[int, Happened]]:
    try:
        yield first
        async for item in rest:
            yield item
    finally:
        await rest.aclose()


def wants_usage(options: Any) -> bool:
    """Whether a stream ends with a chunk about its usage."""
    return bool(options and options.include_usage)
