"""How many requests run, and how many may wait, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pydantic import Field

from stars_guard.server.openai.faults import Fault, overloaded
from stars_guard.settings import Settings


class QueueLimits(Settings):
    """How many choices run, and how many requests wait for room."""

    running: int = Field(default=32, ge=1)
    """Most choices being served at the same time."""
    queued: int = Field(default=128, ge=0)
    """Most requests that wait; one more is refused with 429."""
    queue_seconds: float = Field(default=30.0, gt=0)
    """Most seconds that a request waits, before it is refused with 429."""


@dataclass(eq=False)
class _Waiting:
    slots: int
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def admitted(self) -> bool:
        """Whether its turn has come."""
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class Admission:
    """Lets choices run while there is room. A request that fits goes ahead of none that waits.

    Args:
        limits: how much room there is.

    Attributes:
        running: choices being served.
        draining: whether nothing more is taken on.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.running = 0
        self.draining = False

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @asynccontextmanager
    async def admitted(self, choices: int) -> AsyncIterator[None]:
        """Wait for room for so many choices, and hold it.

        Raises:
            Fault: 429, the queue is full, or the wait too long; 503 while draining.
        """
        slots = min(choices, self._limits.running)
        await self._enter(slots)
        try:
            yield
        finally:
            self.running -= slots
            self._let_in()

    async def drained(self) -> None:
        """Take nothing more on, and return when nothing runs and nothing waits."""
        self.draining = True
        await self._quiet.wait()

    def turn_away(self) -> None:
        """Take nothing more on, and refuse those that still wait."""
        self.draining = True
        waiting, self._queue = self._queue, deque()
        for request in waiting:
            if not request.turn.done():
                request.turn.set_exception(_going_down())
        self._let_in()

    async def _enter(self, slots: int) -> None:
        if self.draining:
            raise _going_down()
        if not self._queue and self.running + slots <= self._limits.running:
            self._run(slots)
            return
        if len(self._queue) >= self._limits.queued:
            raise overloaded(f"{len(self._queue)} requests are waiting already", self._seconds())
        waiting = _Waiting(slots)
        self._queue.append(waiting)
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await waiting.turn
        except TimeoutError:
            self._leave(waiting)
            message = f"no room within {self._limits.queue_seconds:g} seconds"
            raise overloaded(message, self._seconds()) from None
        except BaseException:
            self._leave(waiting)
            raise

    def _leave(self, waiting: _Waiting) -> None:
        """End a wait; room that the request was just given goes to the next."""
        if waiting in self._queue:
            self._queue.remove(waiting)
        elif waiting.admitted:
            self.running -= waiting.slots
        self._let_in()

    def _run(self, slots: int) -> None:
        self.running += slots
        self._quiet.clear()

    def _let_in(self) -> None:
        while self._queue and self.running + self._queue[0].slots <= self._limits.running:
            waiting = self._queue.popleft()
            if waiting.turn.done():
                continue
            self._run(waiting.slots)
            waiting.turn.set_result(None)
        if not self.running and not self._queue:
            self._quiet.set()

    def _seconds(self) -> int:
        """Seconds until there may be room: a guess, from how long the queue may take."""
        return max(1, round(self._limits.queue_seconds / 4))


def _going_down() -> Fault:
    return Fault(503, "the server is going down", "server_error", "draining", retry_after=5)
