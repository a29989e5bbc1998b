"""What a run leaves behind: threads, descriptors, memory, and errors that nobody caught."""

from __future__ import annotations

import gc
import json
import logging
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic_core import from_json

from tests.faults.marks import MARK

PATIENCE = 30.0
"""Seconds for threads that are on their way out."""
MOST_GROWTH = 0.25
"""Most blocks of memory that a stream may leave for good, on average; a single object is at least one."""
NOISE = 10_000
"""Blocks by which two samples differ where nothing grows: servers keep buffers for a while."""
MEASURABLE = 4000
"""Streams or requests after which memory may be compared: caches fill before, and samples differ a little."""
_OURS = "stars-guard"
"""Prefix of the names of the package's threads."""
_POOLS = ("stars-guard-ahead", "stars-guard-scor", "stars-guard-probe")
"""Prefixes of those that wait for the next call, as long as there is a guard."""


def is_ours(thread: str) -> bool:
    """Whether a thread is the package's, by its name."""
    return thread.startswith(_OURS)


def is_at_work(thread: str) -> bool:
    """Whether a thread is the package's, and is one that ends when there is nothing to do."""
    return is_ours(thread) and not thread.startswith(_POOLS)


class LogReader(logging.Handler):
    """Reads every line of the package's log, as an operator would, and keeps those that hold a candidate."""

    def __init__(self) -> None:
        super().__init__()
        self.lines, self.leaks = 0, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        text = record.getMessage()
        if record.exc_info:
            text += logging.Formatter().formatException(record.exc_info)
        if MARK.search(text):
            self.leaks.append(f"a candidate in a log line: {record.msg}")


class Watch:
    """Compares the process before and after, and listens meanwhile. Use it with ``with``.

    Args:
        ends: whether a thread of that name must have ended when the run has.

    Attributes:
        log: what was logged.
        blocks: of memory in use at each sample, and how many streams or requests had been served.
    """

    def __init__(self, ends: Callable[[str], bool] = is_ours) -> None:
        self._ends = ends
        self.log = LogReader()
        self.blocks: list[tuple[int, int]] = []
        self._uncaught: Counter[str] = Counter()
        self._before = 0
        self._threads: set[threading.Thread] = set()

    def __enter__(self) -> Watch:
        gc.collect()  # so that what others left is not taken for this run's
        logger = logging.getLogger("stars_guard")
        self._logger = logger.propagate, logger.level
        logger.propagate = False
        logger.addHandler(self.log)
        self._hooks: tuple[Any, Any] = (threading.excepthook, sys.unraisablehook)
        threading.excepthook = self._note
        sys.unraisablehook = self._note
        _fill_string_cache()
        self._before = self._descriptors()
        self._threads = set(threading.enumerate())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        threading.excepthook, sys.unraisablehook = self._hooks
        logger = logging.getLogger("stars_guard")
        logger.removeHandler(self.log)
        logger.propagate = self._logger[0]

    def _note(self, uncaught: Any) -> None:
        self._uncaught[f"uncaught: {uncaught.exc_type.__name__}"] += 1

    def sample(self, served: int) -> None:
        """Measure memory, after so many streams or requests."""
        gc.collect()
        self.blocks.append((served, sys.getallocatedblocks()))

    @property
    def growth(self) -> float:
        """Blocks of memory a stream, from the middle third of the samples to the last; 0 for a short run."""
        third = len(self.blocks) // 3
        if not third:
            return 0.0
        # Medians, since at one sample a connection or two may be on their way out.
        (served, blocks), (served_then, blocks_then) = (
            [statistics.median(column) for column in zip(*part, strict=True)]
            for part in (self.blocks[third:-third], self.blocks[-third:])
        )
        more = served_then - served
        return (blocks_then - blocks) / more if more >= MEASURABLE else 0.0

    def _grows(self) -> bool:
        return (
            self.growth * self.blocks[-1][0] / 3 > NOISE and self.growth > MOST_GROWTH
            if self.blocks
            else False
        )

    def complaints(self) -> list[str]:
        """Whatever is left of the run, and what was not caught."""
        wrong = [*self.log.leaks, *(f"{what} ({count} times)" for what, count in self._uncaught.items())]
        if threads := self._threads_left():
            wrong.append(f"threads that do not end: {threads}")
        more = self._descriptors() - self._before
        if more > 0:
            wrong.append(f"{more} descriptors that are not closed")
        if self._grows():
            wrong.append(f"memory grows by {self.growth:.3g} blocks a stream: {self.blocks}")
        return wrong

    def _threads_left(self) -> list[str]:
        until = time.monotonic() + PATIENCE
        while left := [
            thread.name
            for thread in threading.enumerate()
            if self._ends(thread.name) and thread not in self._threads
        ]:
            gc.collect()
            if time.monotonic() > until:
                return left
            time.sleep(0.01)
        return []

    @staticmethod
    def _descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


def _fill_string_cache() -> None:
    """Have pydantic's JSON reader keep as many short strings as it ever does, so that it grows no more."""
    for first in range(0, 200_000, 10_000):
        from_json(json.dumps([f"cached {number}" for number in range(first, first + 10_000)]))
