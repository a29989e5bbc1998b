"""Worst cases: how long a reader waits between two pieces of text, where, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stars_guard.algorithm.trace import SegmentTrace, Trace, Verdict
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped, bootstrapped_amount, known
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.settings import StoredRecord

_SHOWN = (Verdict.ACCEPTED, Verdict.FORCED)


class Wait(NamedTuple):
    """Work between two shown segments, or before the refusal text.

    Attributes:
        segment: number of the segment that a reader waits for, from 0.
        attempts: candidates judged.
        tokens: tokens of these candidates.
        verdict: what the last of them led to.
    """

    segment: int
    attempts: int
    tokens: int
    verdict: Verdict


class Stalls(StoredRecord):
    """Longest waits of answers: those in which most candidates were judged, the first of equal ones."""

    attempts: MeanEstimate
    """Candidates judged in an answer's longest wait."""
    tokens: MeanEstimate
    """Most tokens of candidates that were judged in one wait of an answer."""
    most_attempts: int
    """Candidates judged in the longest wait of all answers."""
    most_tokens: int
    """Most tokens of candidates that were judged in one wait of all answers."""
    at_limit: MeanEstimate
    """Share of answers in which a segment took every attempt that the settings allow."""
    at_first: MeanEstimate
    """Share of answers whose longest wait is for the first segment."""
    at_second: MeanEstimate
    """Share of answers whose longest wait is for the second segment."""
    later: MeanEstimate
    """Share of answers whose longest wait is for a segment after the second."""
    accepted: MeanEstimate
    """Share of answers whose longest wait ended with a candidate that passed the rule."""
    forced: MeanEstimate
    """Share of answers whose longest wait ended with a candidate that was shown all the same."""
    refused: MeanEstimate
    """Share of answers whose longest wait ended with the refusal text."""


def waits_between_texts(answers: Sequence[TracedAnswer], seed: int) -> Stalls | None:
    """Longest waits; None without answers.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    if not answers:
        return None
    waited = [(answer.prompt, waits(answer.trace)) for answer in answers]
    attempts = [(prompt, max((wait.attempts for wait in each), default=0)) for prompt, each in waited]
    tokens = [(prompt, max((wait.tokens for wait in each), default=0)) for prompt, each in waited]
    longest = [(prompt, longest_wait(each)) for prompt, each in waited]

    def share(holds: Callable[[Wait], bool]) -> MeanEstimate:
        return _share([(prompt, wait is not None and holds(wait)) for prompt, wait in longest], seed)

    return Stalls(
        attempts=_mean(attempts, seed),
        tokens=_mean(tokens, seed),
        most_attempts=max(most for _, most in attempts),
        most_tokens=max(most for _, most in tokens),
        at_limit=_share([(answer.prompt, used_all_attempts(answer.trace)) for answer in answers], seed),
        at_first=share(lambda wait: wait.segment == 0),
        at_second=share(lambda wait: wait.segment == 1),
        later=share(lambda wait: wait.segment > 1),
        accepted=share(lambda wait: wait.verdict is Verdict.ACCEPTED),
        forced=share(lambda wait: wait.verdict is Verdict.FORCED),
        refused=share(lambda wait: wait.verdict is Verdict.REFUSED),
    )


def waits(trace: Trace) -> list[Wait]:
    """All waits of an answer, in order."""
    ended: list[Wait] = []
    since: list[SegmentTrace] = []
    for segment in trace.segments:
        since.append(segment)
        if segment.verdict in _SHOWN:
            ended.append(_wait(since))
            since = []
    return [*ended, _wait(since)] if any(segment.attempts for segment in since) else ended


def longest_wait(of_answer: Sequence[Wait]) -> Wait | None:
    """The wait in which most candidates were judged, the first of equal ones; None without any.

    Args:
        of_answer: all waits of one answer.
    """
    return max(of_answer, key=lambda wait: wait.attempts, default=None)


def used_all_attempts(trace: Trace) -> bool:
    """Whether a segment took every attempt that the settings allow."""
    return any(len(segment.attempts) >= trace.config.max_attempts for segment in trace.segments)


def _wait(segments: Sequence[SegmentTrace]) -> Wait:
    judged = [attempt for segment in segments for attempt in segment.attempts]
    return Wait(
        # Segments after it may have been drawn and taken back; none of them was shown.
        segment=segments[0].index,
        attempts=len(judged),
        tokens=sum(attempt.tokens for attempt in judged),
        verdict=segments[-1].verdict,
    )


def _mean(values: Sequence[tuple[str, float]], seed: int) -> MeanEstimate:
    return known(bootstrapped_amount(values_by_prompt(values), seed))


def _share(values: Sequence[tuple[str, float]], seed: int) -> MeanEstimate:
    return known(bootstrapped(values_by_prompt(values), seed))
