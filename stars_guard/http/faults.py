"""Why a call to a server failed, when to call again, and what to do about it. Nothing here needs httpx.

Bodies are never shown: servers echo what they were sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from stars_guard.errors import StarsGuardError
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


@dataclass(frozen=True, slots=True)
class ServerFaults:
    """What is raised and said when one kind of server fails.

    Attributes:
        error: class of every error of a call.
        server: what the server is called: "engine", "server".
        caller: what a closed client's owner is called: "model", "RemoteReward".
        more_time: remedy of an answer that is late.
        remedies: what to do about a status, by status; any other sends to the server's log.
    """

    error: type[StarsGuardError]
    server: str
    caller: str
    more_time: str
    remedies: Mapping[int, str]

    @property
    def closed(self) -> str:
        """What is said of a call to a client that was closed."""
        return f"this {self.caller} is closed; make a new one"

    def late(self) -> Failure:
        """The time of a call ran out. Another would cost as much again, so there is none."""
        return Failure(f"no whole answer in time; {self.more_time}, or look at the {self.server}")

    def refused(self, status: int, retry_after: str, *, redirected: bool) -> Failure:
        """A status that is no success, with what to do about it.

        Args:
            status: of the answer.
            retry_after: its header of that name, empty without.
            redirected: whether it names another place.
        """
        remedy = self.remedies.get(status, f"look into the {self.server}'s log")
        if redirected:
            remedy = "redirects are not followed: give the final URL"
        return Failure(f"status {status}; {remedy}", _seconds(retry_after) if status in _PASSING else None)

    def broken(self, kind: str) -> Failure:
        """The answer began and did not end: it may have been drawn or judged, so there is no other call."""
        return Failure(f"the answer broke off or is no HTTP ({kind}); look at the {self.server}")

    def lost(self, kind: str) -> Failure:
        """The connection ended before an answer."""
        return Failure(f"the connection was lost before an answer ({kind}); look at the {self.server}", 0)

    def unreachable(self, reason: str) -> Failure:
        """There is no connection. A certificate that is not trusted now will not be in a second either."""
        retry_after = None if "CERTIFICATE_VERIFY_FAILED" in reason else 0
        return Failure(f"cannot connect ({reason}); check the URL and the {self.server}", retry_after)


def _seconds(header: str) -> float:
    """Seconds that a ``Retry-After`` header asks for, as a number or as a date; 0 if it cannot be read."""
    if header.isdecimal():
        return float(header)
    with suppress(ValueError, OverflowError):
        date = parsedate_to_datetime(header)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0
