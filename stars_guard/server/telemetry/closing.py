"""What the server ends connections for, and the log line that says how often."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from enum import StrEnum

log = logging.getLogger("stars_guard.server.connections")

_LOG_SECONDS = 10.0


class Closing(StrEnum):
    """Why the server ended a connection before its time, or did not take it."""

    HEAD_TOO_SLOW = "head_too_slow"
    BODY_TOO_SLOW = "body_too_slow"
    READ_TOO_SLOWLY = "read_too_slowly"
    MALFORMED = "malformed"
    CROWDED_OUT = "crowded_out"
    """Longest wait for a whole request, where another connection came and there was no room."""
    TOO_MANY = "too_many"
    """Every other connection had a request being answered."""
    TOO_MANY_FROM_ADDRESS = "too_many_from_address"


class ClosingLog:
    """Logs how many connections were ended and why, in one line for all that happen within some seconds.

    An attack ends thousands of them, and a line for each would be one more.

    Args:
        seconds: from the first of them to the line.
    """

    def __init__(self, seconds: float = _LOG_SECONDS) -> None:
        self._seconds = seconds
        self._counts: Counter[str] = Counter()

    def __call__(self, reason: Closing) -> None:
        """Count one."""
        if not self._counts:
            asyncio.get_running_loop().call_later(self._seconds, self._write)
        self._counts[reason.value] += 1

    def _write(self) -> None:
        log.warning("connections closed", extra={"fields": dict(self._counts)})
        self._counts.clear()
