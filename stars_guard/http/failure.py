"""Why a call to a server failed, and when to call again. Bodies are not shown: servers echo what they got."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from stars_guard.http.access import HttpAccess

_PASSING = (429, 502, 503, 504)
"""Statuses after which another call may succeed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, and the least seconds to wait before another; None when another cannot help."""

    what: str
    retry_after: float | None = None

    def pause(self, access: HttpAccess, attempt: int, most: float) -> float | None:
        """Seconds before the next call; None if there is to be none.

        Args:
            access: how often to call again.
            attempt: calls made again so far.
            most: seconds under which a wait is worth it.
        """
        if self.retry_after is None or attempt == access.retries:
            return None
        pause: float = max(access.backoff * 2**attempt, self.retry_after)
        return pause if pause < most else None


def refused(response: httpx.Response, remedies: Mapping[int, str], otherwise: str) -> Failure:
    """A status that is no success, with what to do about it."""
    status = response.status_code
    remedy = remedies.get(status, otherwise)
    if response.has_redirect_location:
        remedy = "redirects are not followed: give the final URL"
    wait = _retry_after(response.headers.get("retry-after", "")) if status in _PASSING else None
    return Failure(f"status {status}; {remedy}", wait)


def too_long(access: HttpAccess) -> Failure:
    """More came than is read."""
    return Failure(f"more than max_answer_bytes={access.max_answer_bytes} came; raise it")


def _retry_after(header: str) -> float:
    """Seconds that a ``Retry-After`` header asks for, as a number or as a date; 0 if it cannot be read."""
    if header.isdecimal():
        return float(header)
    with suppress(ValueError, OverflowError):
        date = parsedate_to_datetime(header)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0
