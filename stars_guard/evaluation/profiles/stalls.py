"""Worst cases: how long a reader waits between two pieces of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.settings import StoredRecord

_SHOWN = (Verdict.ACCEPTED, Verdict.FORCED)


class Stalls(StoredRecord):
    """Longest waits of answers. A wait is the work between two shown segments, or before the refusal text."""

    attempts: MeanEstimate
    """Candidates judged in an answer's longest wait."""
    tokens: MeanEstimate
    """Tokens of these candidates."""
    most_attempts: int
    """Candidates judged in the longest wait of all answers."""
    most_tokens: int
    """Tokens judged in the longest wait of all answers."""
    at_limit: MeanEstimate
    """Share of answers in which a segment took every attempt that the settings allow."""


def waits_between_texts(answers: Sequence[TracedAnswer], seed: int) -> Stalls | None:
    """Longest waits; None without answers.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    longest = [(answer.prompt, longest_wait(answer.trace)) for answer in answers]
    attempts = _mean(((prompt, wait[0]) for prompt, wait in longest), seed)
    tokens = _mean(((prompt, wait[1]) for prompt, wait in longest), seed)
    at_limit = _mean(((answer.prompt, used_all_attempts(answer.trace)) for answer in answers), seed)
    if attempts is None or tokens is None or at_limit is None:
        return None
    return Stalls(
        attempts=attempts,
        tokens=tokens,
        most_attempts=_most(longest, lambda wait: wait[0]),
        most_tokens=_most(longest, lambda wait: wait[1]),
        at_limit=at_limit,
    )


def longest_wait(trace: Trace) -> tuple[int, int]:
    """Most candidates, and most tokens of candidates, that were judged between two pieces of text."""
    waits = list(_waits(trace)) or [(0, 0)]
    return max(attempts for attempts, _ in waits), max(tokens for _, tokens in waits)


def used_all_attempts(trace: Trace) -> bool:
    """Whether a segment took every attempt that the settings allow."""
    return any(len(segment.attempts) >= trace.config.max_attempts for segment in trace.segments)


def _waits(trace: Trace) -> Iterator[tuple[int, int]]:
    attempts = tokens = 0
    for segment in trace.segments:
        attempts += len(segment.attempts)
        tokens += sum(attempt.tokens for attempt in segment.attempts)
        if segment.verdict in _SHOWN:
            yield attempts, tokens
            attempts = tokens = 0
    if attempts:
        yield attempts, tokens


def _most(longest: Sequence[tuple[str, tuple[int, int]]], which: Callable[[tuple[int, int]], int]) -> int:
    return max(which(wait) for _, wait in longest)


def _mean(values: Iterator[tuple[str, float]], seed: int) -> MeanEstimate | None:
    return bootstrapped(values_by_prompt(values), seed)
