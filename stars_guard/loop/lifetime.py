"""How long an answer is wanted: until it is cancelled, or out of time."""

from __future__ import annotations

import time

from stars_guard.types import StopReason

_GRACE = 0.5
"""Seconds after which a request that should have ended is taken to be held up. Until then its own thread may
end it: within a token step, which on a small machine takes a while, and with every cost counted."""


class Lifetime:
    """Whether anybody still waits for an answer. Any thread may ask, and may cancel it.

    Args:
        submitted: ``time.monotonic()`` value from which its seconds count.
        max_seconds: how long it is waited for; None without a bound.

    Attributes:
        deadline: ``time.monotonic()`` value at which its seconds are over; None without a bound.
    """

    def __init__(self, submitted: float, max_seconds: float | None) -> None:
        self.deadline = None if max_seconds is None else submitted + max_seconds
        self._cancelled_at: float | None = None

    def cancel(self) -> None:
        """Stop at the next token step. Safe from any thread, and after the end."""
        if self._cancelled_at is None:
            self._cancelled_at = time.monotonic()

    def alive(self) -> bool:
        """Whether anybody still wants tokens of this request."""
        return self.interruption() is None

    def interruption(self) -> StopReason | None:
        """Why the answer must end now, if it was cancelled or is out of time."""
        if self._cancelled_at is not None:
            return StopReason.CANCELLED
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return StopReason.DEADLINE
        return None

    def overdue(self) -> StopReason | None:
        """Why the answer should have ended some time ago, if it should have."""
        left = self.seconds_until_overdue()
        return None if left is None or left > 0 else self.interruption()

    def seconds_until_overdue(self) -> float | None:
        """Seconds after which it should have ended whatever happens; None if it may go on for ever."""
        ends = [moment for moment in (self._cancelled_at, self.deadline) if moment is not None]
        return min(ends) + _GRACE - time.monotonic() if ends else None
