"""How methods compare on the same prompts: paired differences, and who wins how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Literal, TypeAlias

from stars_guard.evaluation.methods.costs import first_text_seconds
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.reporting.answered import TaskRecords
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.paired import ByPrompt, Difference, paired_difference
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.result import Usage
from stars_guard.settings import StoredRecord

ComparedFigure: TypeAlias = Literal[
    "harmful", "reward", "refused", "proposed_tokens", "seconds", "seconds_to_first_text"
]
HIGHER_IS_BETTER = frozenset({"reward"})
"""Figures of which more is better; of all others less is."""
CHANCE = 0.05
"""P-value from which on a difference is put down to chance."""


class PairedComparison(StoredRecord):
    """A figure of one method less that of another, on the prompts that both answered."""

    figure: ComparedFigure
    judge: str = ""
    """Judge that the figure is by; empty where there is none."""
    method: str
    other: str
    difference: Difference

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """Whether the method is better; undecided where the interval holds 0, or chance may do as much.

        Resampled intervals of a few prompts are too narrow, and that of one prompt is a point: there only the
        test, which is exact for them, keeps chance from being taken for a difference.
        """
        low, high = self.difference.low, self.difference.high
        if low <= 0 <= high or self.difference.chance >= CHANCE:
            return "undecided"
        return "better" if (low > 0) == (self.figure in HIGHER_IS_BETTER) else "worse"


class WinShare(StoredRecord):
    """How often a method's answer is better than another's to the same prompt, in the eyes of a judge."""

    judge: str
    method: str
    other: str
    share: MeanEstimate
    """Share of prompts that are won; ties count half."""


def comparisons_of(records: TaskRecords, subject: str) -> list[PairedComparison]:
    """Differences between a method and every other, in every figure that both have.

    Args:
        records: of the task.
        subject: name of the method.
    """
    return [
        comparison
        for other in records.methods
        if other != subject
        for comparison in _compared(records, subject, other)
    ]


def _compared(records: TaskRecords, subject: str, other: str) -> Iterator[PairedComparison]:
    for figure, judge, values in _figures(records):
        difference = paired_difference(values(subject), values(other), records.seed)
        if difference is not None:
            yield PairedComparison(
                figure=figure, judge=judge, method=subject, other=other, difference=difference
            )


def _figures(records: TaskRecords) -> Iterator[tuple[ComparedFigure, str, Callable[[str], ByPrompt]]]:
    for judge in records.judges:
        yield "harmful", judge, partial(records.harm, judge=judge)
        yield "reward", judge, partial(records.values, judge=judge)
    yield "refused", "", _of_answers(records, lambda answer: float(answer.row.refused is True))
    yield "proposed_tokens", "", _of_answers(records, lambda answer: float(answer.usage.proposed_tokens))
    yield "seconds", "", _of_timings(records, lambda usage: usage.seconds.total)
    yield "seconds_to_first_text", "", _of_timings(records, first_text_seconds)


def _of_answers(records: TaskRecords, which: Callable[[TracedAnswer], float]) -> Callable[[str], ByPrompt]:
    return lambda method: values_by_prompt(
        (answer.prompt, which(answer)) for answer in records.traced[method]
    )


def _of_timings(records: TaskRecords, which: Callable[[Usage], float]) -> Callable[[str], ByPrompt]:
    return lambda method: {
        prompt: [which(usage) for usage in usages] for prompt, usages in records.timed[method].items()
    }


def win_shares(records: TaskRecords) -> list[WinShare]:
    """Every pair of methods by every judge of single answers, on the prompts that both answered.

    A judge of pairs saw each method beside one and the same other, and so said nothing of any other pair.
    """
    shares = [
        (judge, method, other, _won(records, judge, method, other))
        for judge in records.judges
        if not any(item.orders for method in records.methods for item in records.said[method, judge])
        for method, other in combinations(records.methods, 2)
    ]
    return [
        WinShare(judge=judge, method=method, other=other, share=share)
        for judge, method, other, share in shares
        if share is not None
    ]


def _won(records: TaskRecords, judge: str, method: str, other: str) -> MeanEstimate | None:
    mine, theirs = records.means(method, judge), records.means(other, judge)
    won = {
        prompt: [0.5 + 0.5 * ((mine[prompt] > theirs[prompt]) - (mine[prompt] < theirs[prompt]))]
        for prompt in mine
        if prompt in theirs
    }
    return bootstrapped(won, records.seed, resamples=500)
