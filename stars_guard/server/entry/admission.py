"""How many requests run, and how many may wait, in order of arrival; and how much of both is one key's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
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
    key_share: float = Field(default=0.5, gt=0, le=1)
    """Largest share of ``running`` and of ``queued`` that one of several keys may have; 1 is no bound."""


@dataclass(eq=False)
class _Waiting:
    slots: int
    key: str
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def admitted(self) -> bool:
        """Whether its turn has come."""
        return self.turn.done() and not self.turn.cancelled() and self.turn.exception() is None


class Admission:
    """Lets choices run while there is room. A request goes ahead only of those whose key has its share.

    Args:
        limits: how much room there is.
        keys: how many keys share it; one, or none, may have all of it.

    Attributes:
        running: choices being served.
        draining: whether nothing more is taken on.
    """

    def __init__(self, limits: QueueLimits, keys: int = 0) -> None:
        self._limits = limits
        share = limits.key_share if keys > 1 else 1
        self._most_running = max(1, int(limits.running * share))
        self._most_queued = min(limits.queued, max(1, int(limits.queued * share)))
        self._queue: list[_Waiting] = []
        self._entered: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.running = 0
        self.draining = False

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    @contextmanager
    def entered(self, key: str) -> Iterator[None]:
        """Count a request of ``key`` from before its body is read to its end.

        Raises:
            Fault: 429, more could neither run nor wait.
        """
        if self._entered.total() >= self._limits.running + self._limits.queued:
            raise overloaded("as many requests as may run and wait are here already", self._seconds())
        if self._entered[key] >= self._most_running + self._most_queued:
            raise self._over_share(self._entered[key], "here")
        self._entered[key] += 1
        try:
            yield
        finally:
            self._entered[key] -= 1

    @asynccontextmanager
    async def admitted(self, choices: int, key: str = "") -> AsyncIterator[None]:
        """Wait for room for so many choices of ``key``, and hold it.

        Raises:
            Fault: 429, the queue is full, or the wait too long; 503 while draining.
        """
        slots = min(choices, self._most_running)
        await self._enter(slots, key)
        try:
            yield
        finally:
            self._run(-slots, key)
            self._let_in()

    async def drained(self) -> None:
        """Take nothing more on, and return when nothing runs and nothing waits."""
        self.draining = True
        await self._quiet.wait()

    def turn_away(self) -> None:
        """Take nothing more on, and refuse those that still wait."""
        self.draining = True
        waiting, self._queue = self._queue, []
        for request in waiting:
            if not request.turn.done():
                request.turn.set_exception(_going_down())
        self._let_in()

    async def _enter(self, slots: int, key: str) -> None:
        if self.draining:
            raise _going_down()
        waiting = _Waiting(slots, key)
        self._queue.append(waiting)
        self._let_in()
        try:
            if not waiting.admitted:
                self._check_queue(key)
                async with asyncio.timeout(self._limits.queue_seconds):
                    await waiting.turn
        except TimeoutError:
            self._leave(waiting)
            message = f"no room within {self._limits.queue_seconds:g} seconds"
            raise overloaded(message, self._seconds()) from None
        except BaseException:
            self._leave(waiting)
            raise

    def _check_queue(self, key: str) -> None:
        """Refuse the request that joined the queue last if it is one too many."""
        others = len(self._queue) - 1
        if others >= self._limits.queued:
            raise overloaded(f"{others} requests are waiting already", self._seconds())
        of_key = sum(waiting.key == key for waiting in self._queue) - 1
        if of_key >= self._most_queued:
            raise self._over_share(of_key, "waiting")

    def _over_share(self, requests: int, where: str) -> Fault:
        share = f"a share of {self._limits.key_share:g}"
        return overloaded(f"{requests} requests of this key are {where} already, {share}", self._seconds())

    def _leave(self, waiting: _Waiting) -> None:
        """End a wait; room that the request was just given goes to the next."""
        if waiting in self._queue:
            self._queue.remove(waiting)
        elif waiting.admitted:
            self._run(-waiting.slots, waiting.key)
        self._let_in()

    def _run(self, slots: int, key: str) -> None:
        """Have so many choices more run, or fewer."""
        self.running += slots
        self._running[key] += slots
        if self.running:
            self._quiet.clear()

    def _let_in(self) -> None:
        at_share: set[str] = set()
        # Whoever comes later must not keep a large request waiting for ever, hence the set and the break.
        for waiting in [waiting for waiting in self._queue if not waiting.turn.done()]:
            if self._running[waiting.key] + waiting.slots > self._most_running:
                at_share.add(waiting.key)
            elif self.running + waiting.slots > self._limits.running:
                break
            elif waiting.key not in at_share:
                self._queue.remove(waiting)
                self._run(waiting.slots, waiting.key)
                waiting.turn.set_result(None)
        if not self.running and not self._queue:
            self._quiet.set()

    def _seconds(self) -> int:
        """Seconds until there may be room: a guess, from how long the queue may take."""
        return max(1, round(self._limits.queue_seconds / 4))


def _going_down() -> Fault:
    return Fault(503, "the server is going down", "server_error", "draining", retry_after=5)
