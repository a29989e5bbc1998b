"""A bounded number of rows in flight; answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.batch.answers import Done, answered, failed
from stars_guard.batch.rows import Row
from stars_guard.errors import ConfigurationError, StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Request
from stars_guard.prompts import Prompt


def answers_here(
    llm: StarsGuardedLLM, rows: Iterable[Row], in_flight: int, key: AcceptanceKey | None = None
) -> Generator[Done, None, None]:
    """Answer rows in a thread without an event loop; Ctrl-C and closing it stop the rows in flight.

    Args:
        llm: as for :func:`answers_async`, which says the rest, too.
        rows: read no faster than they are answered.
        in_flight: most rows at the same time, 1 or more.
        key: as for :func:`answers_async`.
    """
    with asyncio.Runner() as runner:
        over = answers_async(llm, rows, in_flight, key)
        try:
            while (done := runner.run(_next(over))) is not None:
                yield done
        finally:
            runner.run(over.aclose())


async def _next(over: AsyncGenerator[Done, None]) -> Done | None:
    return await anext(over, None)


async def answers_async(
    llm: StarsGuardedLLM, rows: Iterable[Row], in_flight: int, key: AcceptanceKey | None = None
) -> AsyncGenerator[Done, None]:
    """Answer rows; closing the iterator stops those in flight within one token step.

    Args:
        llm: answers, with its own settings and limits; its sampling's seed is the batch's.
        rows: read no faster than they are answered.
        in_flight: most rows at the same time, 1 or more.
        key: what acceptance draws are hashed with, since whoever wrote a row chose its seed; None: the key of
            ``llm``, or one that is drawn now.

    Yields:
        Each row once it is over, in the order in which they end. An outage, exhaustion or an unusable
        prompt is the row's result.

    Raises:
        ConfigurationError: the settings are wrong, and so would be every row.
    """
    key = key or llm.acceptance_key or AcceptanceKey.fresh()
    running: set[asyncio.Task[Done]] = set()
    try:
        for row in rows:
            running.add(asyncio.create_task(_answer(llm, row, key)))
            while len(running) >= in_flight:
                for done in await _ended(running):
                    yield done
        while running:
            for done in await _ended(running):
                yield done
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _ended(running: set[asyncio.Task[Done]]) -> list[Done]:
    """Rows that end next; they no longer run."""
    ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    running -= ended
    return [task.result() for task in ended]


async def _answer(llm: StarsGuardedLLM, row: Row, key: AcceptanceKey) -> Done:
    sampling = row.proposing(llm.sampling)
    seed = sampling.seed or 0
    try:
        request = Request(Prompt.of(row.as_prompt), sampling, llm.config, llm.budget, key)
        async with llm.astream_request(request) as stream:
            return answered(row.id, seed, await stream.read())
    except ConfigurationError:
        raise
    except StarsGuardError as error:
        return failed(row.id, seed, error)
