"""Whether anybody still wants what runs here, for calls that are made on the way to a candidate.

A language model's ``start`` is told of no deadline; what it calls elsewhere can ask here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _always() -> bool:
    return True


_WANTED: ContextVar[Callable[[], bool]] = ContextVar("stars_guard_wanted", default=_always)


def still_wanted() -> bool:
    """False once whatever the running code works for was cancelled, or is out of time."""
    return _WANTED.get()()


@contextmanager
def wanted_while(alive: Callable[[], bool]) -> Iterator[None]:
    """Run what is wanted as long as ``alive`` says so."""
    token = _WANTED.set(alive)
    try:
        yield
    finally:
        _WANTED.reset(token)
