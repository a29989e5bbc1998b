"""Who is waiting for the call that runs here: what asks itself, over any number of corners, waits for ever.

Kept in a context variable, so that tasks and ``asyncio.to_thread`` inherit it; the parts that hand a call to
a thread of their own hand it on. A thread that a model or reward starts by other means is not seen through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.errors import StarsGuardError


@dataclass(eq=False, slots=True)
class Asking:
    """A call into a model or reward, while it lasts."""

    by: object
    """Who waits for it; None once it is over, though a task that it started may live on."""
    error: type[StarsGuardError]
    """What is raised when ``by`` is asked from within."""


Askers: TypeAlias = frozenset[Asking]
_ASKERS: ContextVar[Askers] = ContextVar("stars_guard_askers", default=frozenset())


def askers() -> Askers:
    """The calls that the running code is part of."""
    return _ASKERS.get()


def asked_from_within(who: object) -> type[StarsGuardError] | None:
    """The error to raise if ``who`` waits for the running code, and so must not be asked by it."""
    return next((call.error for call in askers() if call.by is who), None)


@contextmanager
def asking(by: object, error: type[StarsGuardError], among: Askers = frozenset()) -> Iterator[None]:
    """Call a model or reward, for which ``by`` waits.

    Args:
        by: who waits.
        error: to be raised when ``by`` is asked from within.
        among: calls that wait for this one as well.
    """
    call = Asking(by, error)
    others = frozenset(other for other in askers() | among if other.by is not by)
    with on_behalf_of([others, [call]]):
        try:
            yield
        finally:
            call.by = None


@contextmanager
def on_behalf_of(groups: Iterable[Iterable[Asking]]) -> Iterator[None]:
    """Run what others wait for, as in a thread that works for them."""
    token = _ASKERS.set(frozenset().union(*groups))
    try:
        yield
    finally:
        _ASKERS.reset(token)
