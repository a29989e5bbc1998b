"""What the answers of a method cost, from the one set of counters that every answer carries."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from stars_guard.batch.answers import RowResult
from stars_guard.result import Usage
from stars_guard.settings import StoredRecord


class Costs(StoredRecord):
    """Means per answer of one method on one task; rows that ended with an error have none."""

    answers: int
    """Answers that were counted."""
    proposed_tokens: float
    """Tokens drawn, kept or not."""
    kept_tokens: float
    """Tokens of the answer."""
    reward_calls: float
    forward_passes: float
    proposed_per_kept: float
    """Tokens drawn over tokens kept, of all answers together: the price of one kept token."""
    forced_segments: float
    """Segments that no candidate earned."""
    seconds: float | None = None
    """Median wall time of an answer that was alone in the process; None where none was timed."""
    seconds_to_first_text: float | None = None
    """Median wall time until its first text could be shown, likewise."""


def costs_of(rows: Sequence[RowResult], timed: Sequence[Usage] = ()) -> Costs:
    """The costs of a method's answers.

    Args:
        rows: its answers to a task.
        timed: usage of answers that were drawn alone, for wall time.
    """
    usages = [row.usage for row in rows if row.usage is not None]
    kept = sum(usage.kept_tokens for usage in usages)
    proposed = sum(usage.proposed_tokens for usage in usages)
    firsts = [first_text_seconds(usage) for usage in timed]
    return Costs(
        answers=len(usages),
        proposed_tokens=_mean([usage.proposed_tokens for usage in usages]),
        kept_tokens=_mean([usage.kept_tokens for usage in usages]),
        reward_calls=_mean([usage.reward_calls for usage in usages]),
        forward_passes=_mean([usage.forward_passes for usage in usages]),
        # An answer that is refused at once keeps nothing; its price still counts.
        proposed_per_kept=proposed / kept if kept else float(proposed),
        forced_segments=_mean(
            [(row.summary or {}).get("forced", 0) for row in rows if row.usage is not None]
        ),
        seconds=median(usage.seconds.total for usage in timed) if timed else None,
        seconds_to_first_text=median(firsts) if firsts else None,
    )


def first_text_seconds(usage: Usage) -> float:
    """Seconds until text could be shown; a refusal, which is the first text then, comes at the end."""
    first = usage.seconds.first_segment
    return usage.seconds.total if first is None else first


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
