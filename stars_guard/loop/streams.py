"""Streams of accepted text, for threads and for tasks. Both only pass on what the loop shows."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

from stars_guard.errors import StarsGuardError
from stars_guard.loop.drivers import Driver
from stars_guard.loop.events import Event, Failed, Finished, Judged, Request
from stars_guard.loop.request import RequestInFlight
from stars_guard.result import GuardedResult
from stars_guard.text.transcript import Piece, Shown
from stars_guard.types import Channel


class StreamedText(str):
    """A piece of the accepted answer.

    Attributes:
        forced: whether the exhaustion policy put it there, and not the rule; all of the piece or none of it.
    """

    forced: bool

    def __new__(cls, text: str, forced: bool) -> StreamedText:
        """A piece that reads ``text``; ``forced`` says how it was accepted."""
        piece = super().__new__(cls, text)
        piece.forced = forced
        return piece

    def __reduce__(self) -> tuple[type[StreamedText], tuple[str, bool]]:
        return StreamedText, (str(self), self.forced)


OnDecision = Callable[[Judged], None]
"""Called for every judged candidate, in order, by whoever reads the stream."""
_MOMENT = 0.05
"""Seconds between two looks at whether a request is held up."""


class _Stream:
    """What both kinds of stream share: folding events into pieces and a result."""

    def __init__(self, on_decision: OnDecision | None) -> None:
        self._on_decision = on_decision
        self._end: Finished | Failed | None = None

    @property
    def result(self) -> GuardedResult:
        """The whole result, once the stream has been read to its end.

        Raises:
            StarsGuardError: the stream has not ended yet, or the request failed.
        """
        if self._end is None:
            raise StarsGuardError("the stream has no result yet; read it to its end first")
        if isinstance(self._end, Failed):
            raise self._end.error
        return self._end.result

    def _fold(self, event: Event) -> Judged | Shown | None:
        """The event, unless it is the end. Raises the error of a failed request."""
        if isinstance(event, Failed | Finished):
            self._end = event
            if isinstance(event, Failed):
                raise event.error
            return None
        if isinstance(event, Judged) and self._on_decision is not None:
            self._on_decision(event)
        return event


def _answer(event: Judged | Shown) -> StreamedText | None:
    """The piece of the answer in an event, if it is one."""
    if not isinstance(event, Piece) or event.channel is not Channel.ANSWER:
        return None
    return StreamedText(event.text, event.forced)


class GuardedStream(_Stream):
    """Iterate for pieces of the accepted answer, or over :meth:`events`; ``result`` holds the rest.

    Closing it, leaving its ``with`` block or dropping it stops the model within one token step.

    Args:
        driver: runs the rounds of the request.
        request: what to answer, checked.
        on_decision: called for every judged candidate, by the thread that reads.
    """

    def __init__(self, driver: Driver, request: Request, on_decision: OnDecision | None = None) -> None:
        super().__init__(on_decision)
        self._driver = driver
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._request = RequestInFlight(request, self._events.put)
        driver.submit(self._request)

    def __iter__(self) -> Iterator[StreamedText]:
        return self

    def __next__(self) -> StreamedText:
        while (event := self._next()) is not None:
            if (piece := _answer(event)) is not None:
                return piece
        raise StopIteration

    def events(self) -> Iterator[Judged | Shown]:
        """Everything in order: decisions, pieces of answer and reasoning, tool calls."""
        while (event := self._next()) is not None:
            yield event

    def read(self) -> GuardedResult:
        """Read to the end and return the result."""
        for _ in self:
            pass
        return self.result

    def close(self) -> None:
        """Stop the request; reading on then gives what was accepted before, and ends."""
        self._driver.cancel(self._request)

    def _next(self) -> Judged | Shown | None:
        """The next event; None at the end."""
        if self._end:
            return None
        # What has happened already is read without a driver, who would have to be asked for each event.
        waiting = self._events.empty()
        event = self._driver.wait(self._request, self._events) if waiting else self._events.get()
        return self._fold(event)

    def __enter__(self) -> GuardedStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A stream whose construction failed has no request.
        if hasattr(self, "_request"):
            self.close()


class AsyncGuardedStream(_Stream):
    """A :class:`GuardedStream` for tasks: ``async for`` and ``async with``; the event loop is never blocked.

    Args:
        driver: runs the rounds of the request, in a thread of its own.
        request: what to answer, checked.
        on_decision: called for every judged candidate, by the task that reads.
    """

    def __init__(self, driver: Driver, request: Request, on_decision: OnDecision | None = None) -> None:
        super().__init__(on_decision)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        # The request must not hold the stream, or dropping the stream would not stop the request.
        self._request = RequestInFlight(request, partial(_put, asyncio.get_running_loop(), self._events))
        self._endings = weakref.ref(driver.rounds.endings)  # the last to hold it should free its models
        self._watch: asyncio.TimerHandle | None = None
        driver.submit_unattended(self._request)
        self._end_in_time()

    def __aiter__(self) -> AsyncIterator[StreamedText]:
        return self

    async def __anext__(self) -> StreamedText:
        while (event := await self._next()) is not None:
            if (piece := _answer(event)) is not None:
                return piece
        raise StopAsyncIteration

    async def events(self) -> AsyncIterator[Judged | Shown]:
        """Everything in order: decisions, pieces of answer and reasoning, tool calls."""
        while (event := await self._next()) is not None:
            yield event

    async def read(self) -> GuardedResult:
        """Read to the end and return the result."""
        async for _ in self:
            pass
        return self.result

    async def aclose(self) -> None:
        """Stop the request; reading on then gives what was accepted before, and ends."""
        # A thread of the driver's is at work on it; ending it here, in the event loop, might block.
        self._request.cancel()
        self._end_in_time()

    async def __aenter__(self) -> AsyncGuardedStream:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if hasattr(self, "_request"):
            self._request.cancel()
            self._unwatch()

    def _end_in_time(self) -> None:
        """Have the event loop end the request when it is overdue: its thread may be held up in a call."""
        self._unwatch()
        left = self._request.seconds_until_overdue()
        if left is not None and not self._request.ended:
            # Not less than a moment, so that a thread which is about to end it can do so.
            loop = asyncio.get_running_loop()
            self._watch = loop.call_later(max(left, _MOMENT), _abandon, weakref.ref(self))

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _next(self) -> Judged | Shown | None:
        try:
            return None if self._end else self._fold(await self._events.get())
        except asyncio.CancelledError:
            self._request.cancel()
            raise
        finally:
            if self._end:
                self._unwatch()


def _abandon(stream: weakref.ref[AsyncGuardedStream]) -> None:
    if (waiting := stream()) is not None and (endings := waiting._endings()) is not None:
        endings.abandon(waiting._request)
        waiting._end_in_time()


def _put(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event], event: Event) -> None:
    # The loop may be gone when an abandoned request ends; then nobody is listening.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(events.put_nowait, event)
