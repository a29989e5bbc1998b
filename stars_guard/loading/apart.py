"""Loading in a thread of its own: Ctrl-C ends the waiting at once, however deep in native code it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Loader(threading.Thread):
    """One piece of work in a thread. Torch keeps its workers per thread, so a thread that stays slows others.

    It does not keep the process alive: what it loads is of use to nobody then.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(name="stars_guard loader", daemon=True)
        self.outcome: Future[Any] = Future()
        self.outcome.set_running_or_notify_cancel()  # whoever gives up waiting does not stop it
        self._work, self._context = work, copy_context()

    def run(self) -> None:
        """Do the work."""
        try:
            self.outcome.set_result(self._context.run(self._work))
        except BaseException as error:  # noqa: BLE001 - raised where the result is wanted
            self.outcome.set_exception(error)


def begun_apart(work: Callable[[], _T]) -> Future[_T]:
    """What becomes of work that a thread of its own does from now on."""
    loader = _Loader(work)
    loader.start()
    return loader.outcome


def done_apart(work: Callable[[], _T]) -> _T:
    """The result of work that a thread of its own does; Ctrl-C ends the waiting for it."""
    return begun_apart(work).result()


def still_loading() -> bool:
    """Whether some work is under way."""
    loaders = [thread for thread in threading.enumerate() if isinstance(thread, _Loader)]
    return any(not loader.outcome.done() for loader in loaders)
