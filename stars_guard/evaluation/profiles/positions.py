"""What happens at each position of an answer: attempts, acceptance, rewards and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from stars_guard.algorithm.trace import SegmentTrace, Verdict
from stars_guard.evaluation.methods.best_of_n import UNREACHABLE
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped_amount, known
from stars_guard.evaluation.statistics.ratios import bootstrapped_ratio, values_by_prompt
from stars_guard.settings import StoredRecord

MOST_POSITIONS = 24
"""Positions that a profile has at most; of answers with more segments, every second, third, ... is left."""
_RESAMPLES = 500


class PositionProfile(StoredRecord):
    """All segments with one number, over the answers of a method to a task."""

    segment: int
    """Number of the segment, from 0."""
    tokens: float
    """Mean tokens of the answer before it."""
    tries: int
    """Segments counted, those that were taken back included."""
    attempts: MeanEstimate
    """Candidates judged a segment."""
    acceptance: MeanEstimate
    """Share of judged candidates that the rule accepted."""
    forced: MeanEstimate
    """Share of segments that no candidate earned."""
    reward: MeanEstimate
    """Reward of judged candidates."""
    kept_reward: MeanEstimate | None
    """Reward of what the answers went on with; None where nothing was kept."""
    threshold: MeanEstimate | None
    """Threshold of judged candidates; None where it decides nothing, being out of reach of every reward."""


class _Try(NamedTuple):
    prompt: str
    segment: SegmentTrace


def position_profiles(answers: Sequence[TracedAnswer], seed: int) -> list[PositionProfile]:
    """Profiles of the positions that any answer reached, in order.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    tries = [
        _Try(answer.prompt, segment)
        for answer in answers
        for segment in answer.trace.segments
        if segment.attempts
    ]
    numbers = sorted({item.segment.index for item in tries})
    step = -(-len(numbers) // MOST_POSITIONS) or 1
    return [
        _profile([item for item in tries if item.segment.index == number], seed) for number in numbers[::step]
    ]


def _profile(tries: Sequence[_Try], seed: int) -> PositionProfile:
    thresholds = [(prompt, value) for prompt, value in _judged(tries, _threshold) if abs(value) < UNREACHABLE]
    return PositionProfile(
        segment=tries[0].segment.index,
        tokens=fmean(item.segment.prefix_tokens for item in tries),
        tries=len(tries),
        attempts=known(_mean([(item.prompt, float(len(item.segment.attempts))) for item in tries], seed)),
        acceptance=_acceptance(tries, seed),
        forced=known(
            _mean([(item.prompt, float(item.segment.verdict is Verdict.FORCED)) for item in tries], seed)
        ),
        reward=known(_mean(list(_judged(tries, _reward)), seed)),
        kept_reward=_mean(list(_kept(tries)), seed),
        threshold=_mean(thresholds, seed),
    )


def _acceptance(tries: Sequence[_Try], seed: int) -> MeanEstimate:
    pairs = [
        (prompt, (float(sum(attempt.accepted for attempt in segment.attempts)), float(len(segment.attempts))))
        for prompt, segment in tries
    ]
    return known(bootstrapped_ratio(values_by_prompt(pairs), seed, _RESAMPLES))


def _reward(segment: SegmentTrace, number: int) -> float:
    return segment.attempts[number].reward


def _threshold(segment: SegmentTrace, number: int) -> float:
    return segment.attempts[number].threshold


def _judged(
    tries: Sequence[_Try], which: Callable[[SegmentTrace, int], float]
) -> Iterator[tuple[str, float]]:
    for prompt, segment in tries:
        yield from ((prompt, which(segment, number)) for number in range(len(segment.attempts)))


def _kept(tries: Sequence[_Try]) -> Iterator[tuple[str, float]]:
    for prompt, segment in tries:
        if segment.chosen is not None and segment.verdict is not Verdict.WITHDRAWN:
            yield prompt, segment.attempts[segment.chosen].reward


def _mean(values: Sequence[tuple[str, float]], seed: int) -> MeanEstimate | None:
    return bootstrapped_amount(values_by_prompt(values), seed, _RESAMPLES)
