"""Work in a thread of its own: its result, its error, and who waits for it."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from stars_guard.loading.apart import begun_apart, done_apart, still_loading

PLACE: ContextVar[str] = ContextVar("PLACE")


def test_the_result_comes_from_another_thread_with_the_callers_context():
    PLACE.set("here")
    assert done_apart(lambda: (PLACE.get(), threading.current_thread().daemon)) == ("here", True)


def test_an_error_is_raised_where_the_result_is_wanted():
    def broken():
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        done_apart(broken)


async def test_who_gives_up_waiting_does_not_disturb_the_work():
    begin, done = threading.Event(), threading.Event()
    outcome = begun_apart(lambda: (begin.wait(60), done.set()))
    waiting = asyncio.ensure_future(asyncio.wrap_future(outcome))
    await asyncio.sleep(0)
    assert still_loading()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    begin.set()
    assert await asyncio.to_thread(done.wait, 60)
    assert await asyncio.to_thread(outcome.result, 60) == (True, None)
    assert not still_loading()
