"""Nothing computes when the interpreter ends: a thread that still did would abort the process."""

from __future__ import annotations

import atexit
import threading
from typing import Protocol
from weakref import WeakSet


class Stoppable(Protocol):
    """Something whose workers end soon after it is stopped."""

    def stop(self) -> None:
        """Cancel everything."""
        ...


ENGINES: WeakSet[Stoppable] = WeakSet()
WORKERS: WeakSet[threading.Thread] = (
    WeakSet()
)  # may outlive their engine: the last to hold it frees its model


@atexit.register
def stop_all() -> None:
    """Stop every engine, and wait for its workers."""
    for engine in list(ENGINES):
        engine.stop()
    for worker in list(WORKERS):
        worker.join(timeout=10)
