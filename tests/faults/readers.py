"""Those who read streams, to the end or not: threads, and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from stars_guard import StarsGuardedLLM, StarsGuardError
from tests.faults.ledger import Shown
from tests.faults.plan import StreamPlan


class BreaksOffError(Exception):
    """Raised by a reader in the middle of a stream."""


def _options(plan: StreamPlan) -> dict[str, Any]:
    return {"sampling": plan.sampling, "budget": plan.budget}


def read(llm: StarsGuardedLLM, plan: StreamPlan) -> Shown:
    """Read a stream in this thread, as its plan has it."""
    shown = Shown(plan.number)
    try:
        _SYNC.get(plan.reader, _events)(llm, plan, shown)
    except StarsGuardError as error:
        shown.error = error
    except BreaksOffError:
        pass
    return shown


def _pieces(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.stream(plan.prompt, **_options(plan))
    for piece in stream:
        shown.add(piece, forced=piece.forced)
    shown.result = stream.result


def _events(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.stream(plan.prompt, **_options(plan))
    for event in stream.events():
        shown.see(event)
    shown.result = stream.result


def _whole(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    shown.whole(llm.generate(plan.prompt, **_options(plan)))


def _closes(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.stream(plan.prompt, **_options(plan))
    for left, event in zip(range(plan.reads, -1, -1), stream.events(), strict=False):
        shown.see(event)
        if not left:
            break
    stream.close()
    for event in stream.events():
        shown.see(event)


def _drops(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.stream(plan.prompt, **_options(plan))
    for _, event in zip(range(plan.reads), stream.events(), strict=False):
        shown.see(event)


def _breaks_off(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    with llm.stream(plan.prompt, **_options(plan)) as stream:
        for _, event in zip(range(plan.reads), stream.events(), strict=False):
            shown.see(event)
        raise BreaksOffError


_SYNC: dict[str, Callable[[StarsGuardedLLM, StreamPlan, Shown], None]] = {
    "pieces": _pieces,
    "events": _events,
    "whole": _whole,
    "closes": _closes,
    "drops": _drops,
    "breaks off": _breaks_off,
}


async def aread(llm: StarsGuardedLLM, plan: StreamPlan) -> Shown:
    """Read a stream in this task, as its plan has it."""
    shown = Shown(plan.number)
    try:
        if plan.reader == "cancels":
            await _acancelled(llm, plan, shown)
        elif plan.reader == "times out":
            async with asyncio.timeout(plan.seconds):
                await _aevents(llm, plan, shown)
        elif plan.reader in _ASYNC:
            await _ASYNC[plan.reader](llm, plan, shown)
        else:
            await _aevents(llm, plan, shown)
    except StarsGuardError as error:
        shown.error = error
    except (BreaksOffError, TimeoutError):
        pass
    return shown


async def _apieces(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.astream(plan.prompt, **_options(plan))
    async for piece in stream:
        shown.add(piece, forced=piece.forced)
    shown.result = stream.result


async def _aevents(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream = llm.astream(plan.prompt, **_options(plan))
    async for event in stream.events():
        shown.see(event)
    shown.result = stream.result


async def _awhole(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    shown.whole(await llm.agenerate(plan.prompt, **_options(plan)))


async def _acloses(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream, left = llm.astream(plan.prompt, **_options(plan)), plan.reads
    async for event in stream.events():
        shown.see(event)
        left -= 1
        if left < 0:
            await stream.aclose()


async def _adrops(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    stream, left = llm.astream(plan.prompt, **_options(plan)), plan.reads
    async for event in stream.events():
        shown.see(event)
        left -= 1
        if left < 0:
            return


async def _abreaks_off(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    async with llm.astream(plan.prompt, **_options(plan)) as stream:
        async for event in stream.events():
            shown.see(event)
            raise BreaksOffError


async def _acancelled(llm: StarsGuardedLLM, plan: StreamPlan, shown: Shown) -> None:
    reading = asyncio.create_task(_aevents(llm, plan, shown))
    await asyncio.wait([reading], timeout=plan.seconds)
    reading.cancel()
    (ended,) = await asyncio.gather(reading, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended


_ASYNC = {
    "pieces": _apieces,
    "whole": _awhole,
    "closes": _acloses,
    "drops": _adrops,
    "breaks off": _abreaks_off,
}
