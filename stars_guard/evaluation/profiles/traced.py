"""An answer together with its trace, the unit of all profiles."""

from __future__ import annotations

from typing import NamedTuple

from stars_guard.algorithm.trace import Attempt, Trace
from stars_guard.batch.answers import RowResult
from stars_guard.result import Usage


class TracedAnswer(NamedTuple):
    """An answer that ended without an error, and every decision of it.

    Attributes:
        prompt: id of its prompt.
        row: the answer.
        trace: its decisions.
    """

    prompt: str
    row: RowResult
    trace: Trace

    @property
    def usage(self) -> Usage:
        """What it cost."""
        return self.row.usage or Usage()

    @property
    def rejected(self) -> list[Attempt]:
        """Candidates that were judged and not chosen."""
        return [
            attempt
            for segment in self.trace.segments
            for attempt in segment.attempts
            if attempt.index != segment.chosen
        ]
