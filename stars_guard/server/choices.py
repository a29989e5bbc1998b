"""The answers to one request while they are being written: their events, in one sequence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Request
from stars_guard.loop.streams import AsyncGuardedStream
from stars_guard.result import GuardedResult
from stars_guard.server.telemetry.exchange import ChoiceEvent

GRACE = 5.0
"""Seconds after the deadline in which a model may still notice it; then nobody waits any longer."""


class Choices:
    """One guarded stream for each choice. Close it, whatever happens.

    Args:
        llm: the guard that answers.
        requests: what it is asked, once for each choice.

    Raises:
        StarsGuardError: the guard does not take the settings or the prompt.
    """

    def __init__(self, llm: StarsGuardedLLM, requests: Sequence[Request]) -> None:
        self._streams = [llm.astream_request(request) for request in requests]
        self._seconds = max(request.budget.max_seconds or math.inf for request in requests)
        self._pending: asyncio.Queue[tuple[int, ChoiceEvent | Exception]] = asyncio.Queue()
        self._readers: list[asyncio.Task[None]] = []
        self._alarm: asyncio.TimerHandle | None = None

    async def events(self) -> AsyncIterator[tuple[int, ChoiceEvent]]:
        """What happens, with the number of the choice; ends with the last result.

        Raises:
            StarsGuardError: the first failure.
            TimeoutError: a model or a reward model does not come back, long after the deadline.
        """
        self._readers = [
            asyncio.create_task(self._read(index, stream)) for index, stream in enumerate(self._streams)
        ]
        if self._seconds < math.inf:
            self._alarm = asyncio.get_running_loop().call_later(self._seconds + GRACE, self._give_up)
        unfinished = len(self._streams)
        while unfinished:
            index, event = await self._pending.get()
            if isinstance(event, Exception):
                raise event
            unfinished -= isinstance(event, GuardedResult)
            yield index, event

    async def cancel(self) -> None:
        """End every answer within one token step; the results still come."""
        for stream in self._streams:
            await stream.aclose()

    async def aclose(self) -> None:
        """Stop the work and forget it."""
        await self.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def _give_up(self) -> None:
        self._pending.put_nowait((0, TimeoutError("the guard did not come back")))

    async def _read(self, index: int, stream: AsyncGuardedStream) -> None:
        try:
            async for event in stream.events():
                self._pending.put_nowait((index, event))
            self._pending.put_nowait((index, stream.result))
        except Exception as error:  # noqa: BLE001 - it is raised where the events are read
            self._pending.put_nowait((index, error))
