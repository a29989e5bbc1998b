"""An event loop in a thread of its own, for those who wait in threads of theirs, and may cease to wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, wait
from typing import Any, TypeVar

from stars_guard.forks import renew_in_children

_LOOK = 0.025
"""Seconds between two looks at whether a call is still wanted."""
_LEFT_TO_PARENTS: list[asyncio.AbstractEventLoop] = []
"""Event loops of the process that this one was forked from."""
_T = TypeVar("_T")


class EventLoop:
    """An event loop in a thread of its own, begun with the first call. Safe to use from several threads.

    A forked process has a loop and a thread of its own.

    Args:
        name: of its thread.
        farewell: run before it ends.
    """

    def __init__(self, name: str, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._name = name
        self._farewell = farewell
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """No thread and no call, in a forked process."""
        if self._loop is not None:
            # Closing it here would take the parent's own connections out of the system's list of events.
            _LEFT_TO_PARENTS.append(self._loop)
        self._lock = threading.Lock()
        self._loop = None
        self._thread: threading.Thread | None = None

    def run(self, call: Coroutine[Any, Any, _T], alive: Callable[[], bool]) -> _T | None:
        """What the call gives; None, and the call cancelled, once it is not wanted any more.

        Args:
            call: run there.
            alive: asked every few milliseconds.

        Raises:
            CancelledError: of :mod:`concurrent.futures`: the loop was stopped.
        """
        if not alive():
            call.close()
            return None
        future = self.submit(call)
        try:
            while not wait([future], _LOOK).done:
                if not alive():
                    return None
            return future.result()
        finally:
            future.cancel()

    def submit(self, call: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run it there; raises CancelledError once the loop was stopped."""
        with self._lock:
            if self._stopped:
                call.close()
                raise CancelledError
            return asyncio.run_coroutine_threadsafe(call, self._loop or self._begun())

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""
        with self._lock:
            self._stopped = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(loop), loop)
        if thread is not threading.current_thread():  # as when the last call is what freed the model
            thread.join()

    def _begun(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(loop,), name=self._name, daemon=True)
        self._thread.start()
        return loop

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await self._farewell()
        finally:
            loop.stop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
