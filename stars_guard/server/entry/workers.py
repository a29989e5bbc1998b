"""Threads for work that takes as long as a request is large, so that the event loop does none of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

SMALL = 16 * 2**10
"""Bytes, or characters, up to which work takes no longer than handing it over."""
_THREADS = 2


class Workers:
    """A few threads; more would only compete for the interpreter with the event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="stars-guard-work")

    async def run(self, size: int, work: Callable[..., _T], *arguments: object) -> _T:
        """What the work returns; done in a thread unless it is small.

        Args:
            size: in bytes or characters, of what is worked on.
            work: what is done; it must not need the event loop.
            arguments: what it is called with.
        """
        if size <= SMALL:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Take nothing more on."""
        self._threads.shutdown(wait=False, cancel_futures=True)
