"""The end of the interpreter: no thread still computes then, since one that did would abort the process."""

from __future__ import annotations

import atexit
import threading
from typing import Protocol
from weakref import WeakSet


class Stoppable(Protocol):
    """Something whose workers end soon after it is stopped."""

    def stop(self) -> None:
        """Cancel everything."""


DRIVERS: WeakSet[Stoppable] = WeakSet()
WORKERS: WeakSet[threading.Thread] = (
    WeakSet()
)  # may outlive their driver: the last to hold it frees its model


@atexit.register
def stop_all() -> None:
    """Stop every driver, and wait for its workers."""
    for driver in list(DRIVERS):
        driver.stop()
    for worker in list(WORKERS):
        worker.join(timeout=10)
