"""What a forked process must not take over from its parent: threads that are gone, and locks that they held.

A process that forks after use (a server that loads before it forks its workers, ``multiprocessing``) leaves
the child copies of every object, but of one thread only. Each part that keeps a thread, a lock or a
connection begins anew there.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Keeps something that does not survive a fork."""

    def renew(self) -> None:
        """Begin anew, in a forked process, before anything else runs there; waits for no lock."""


_PARTS: WeakSet[Renewable] = WeakSet()


def renew_in_children(part: Renewable) -> None:
    """Have a part, as long as it lives, begin anew in every process that is forked."""
    _PARTS.add(part)


def renew_all() -> None:
    """Have every part begin anew."""
    for part in list(_PARTS):
        part.renew()


class ForkedLock:
    """A lock that is open in a forked process, whoever held it in the parent."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """A new lock, held by nobody."""
        self._lock = threading.Lock()

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take it; False if somebody else holds it and ``blocking`` is off."""
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        """Let it go."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


# Systems that cannot fork have no hook for it.
getattr(os, "register_at_fork", lambda **hooks: None)(after_in_child=renew_all)
