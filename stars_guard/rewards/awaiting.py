"""Awaiting what users write as coroutines: on the one event loop that a process keeps for it."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import math
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from stars_guard.errors import ScoringError
from stars_guard.http.event_loop import EventLoop
from stars_guard.rewards.asking import asked_from_within, asking

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


async def _no_farewell() -> None:
    """Clients are their owners' to close."""


_LOOP = EventLoop("stars-guard-async", _no_farewell)
atexit.register(_LOOP.stop)


@dataclass(frozen=True, slots=True)
class Due(Generic[_T_co]):
    """Something to be awaited, and the ``time.monotonic()`` value at which nobody waits any more, or None."""

    awaitable: Awaitable[_T_co]
    deadline: float | None = None


def await_all(pending: Sequence[Due[_T]], name: str) -> list[_T]:
    """What each gives, awaited together. Blocks, and may be called where an event loop is running.

    Args:
        pending: what to await, each until its deadline.
        name: whose they are, for error messages.

    Raises:
        ScoringError: one was late, was cancelled, or tried to end the thread.
        Exception: whatever else one raised; the others are cancelled then.
    """
    if not pending:
        return []
    call = _all(pending, name)
    if asked_from_within(_LOOP):
        # The loop waits for this very call; it cannot run it as well.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(copy_context().run, asyncio.run, call).result()
    last = max(math.inf if due.deadline is None else due.deadline for due in pending)
    try:
        with asking(_LOOP, ScoringError):
            values = _LOOP.run(call, lambda: time.monotonic() < last)
    finally:
        _drop(pending)
    if values is None:
        raise _late(name)
    return values


def _drop(pending: Sequence[Due[_T]]) -> None:
    """Close what was never begun: Python would complain that it was not awaited."""
    for due in pending:
        if inspect.iscoroutine(due.awaitable) and inspect.getcoroutinestate(due.awaitable) == "CORO_CREATED":
            due.awaitable.close()


async def _all(pending: Sequence[Due[_T]], name: str) -> list[_T]:
    tasks: list[asyncio.Task[_T | _Raised]] = []
    tasks.extend(asyncio.create_task(_outcome(due, name)) for due in pending)
    try:
        for next_done in asyncio.as_completed(tasks):
            _value(await next_done)
        return [_value(task.result()) for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


async def _outcome(due: Due[_T], name: str) -> _T | _Raised:
    """What it gives or raises. An event loop would end at some errors, and take others for its own."""
    left = None if due.deadline is None else due.deadline - time.monotonic()
    limit = asyncio.timeout(left)
    try:
        async with limit:
            return await due.awaitable
    except BaseException as error:  # noqa: BLE001
        if limit.expired():
            return _Raised(_late(name))
        if isinstance(error, Exception):
            return _Raised(error)
        stopped = ScoringError(f"scoring with {name} failed: {type(error).__name__}")
        stopped.__cause__ = error
        return _Raised(stopped)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


def _value(outcome: _T | _Raised) -> _T:
    if isinstance(outcome, _Raised):
        raise outcome.error
    return outcome


def _late(name: str) -> ScoringError:
    return ScoringError(f"{name} gave no answer by the deadline; allow more time")
