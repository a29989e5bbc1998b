"""Whether anybody still wants what runs here, for calls that are made on the way to a candidate.

A language model's ``start`` is told of no deadline; what it calls elsewhere can ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


def _always() -> bool:
    return True


@dataclass(slots=True)
class _Work:
    alive: Callable[[], bool]


_WORK: ContextVar[_Work | None] = ContextVar("stars_guard_work", default=None)


def still_wanted() -> bool:
    """False once whatever the running code works for was cancelled, or is out of time."""
    work = _WORK.get()
    return work is None or work.alive()


@contextmanager
def wanted_while(alive: Callable[[], bool]) -> Iterator[None]:
    """Run what is wanted as long as ``alive`` says so."""
    work = _Work(alive)
    token = _WORK.set(work)
    try:
        yield
    finally:
        # A connection keeps the context that it was made in; it need not keep a request.
        work.alive = _always
        _WORK.reset(token)
