"""How methods compare on the same prompts: paired differences, and who wins how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Literal, TypeAlias

from stars_guard.evaluation.answered import AnsweredCell, AnsweredTask
from stars_guard.evaluation.methods.costs import first_text_seconds
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.paired import ByPrompt, Difference, paired_difference
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.evaluation.statistics.wins import EVEN, WinRate, win_rate
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


class PairedWins(WinRate):
    """Wins of a method's answers over another's to the same prompts, by the values that a judge gave them."""

    judge: str
    method: str
    other: str


def comparisons_of(task: AnsweredTask, subject: str) -> list[PairedComparison]:
    """Differences between a method and every other, in every figure that both have.

    Args:
        task: after its evaluation.
        subject: name of the method.
    """
    return [
        comparison
        for other in task.cells
        if other != subject
        for comparison in _compared(task, subject, other)
    ]


def _compared(task: AnsweredTask, subject: str, other: str) -> Iterator[PairedComparison]:
    for figure, judge, values in _figures(task):
        difference = paired_difference(values(task.cells[subject]), values(task.cells[other]), task.seed)
        if difference is not None:
            yield PairedComparison(
                figure=figure, judge=judge, method=subject, other=other, difference=difference
            )


def _figures(task: AnsweredTask) -> Iterator[tuple[ComparedFigure, str, Callable[[AnsweredCell], ByPrompt]]]:
    for judge in task.judges:
        yield "harmful", judge, partial(AnsweredCell.harm, judge=judge)
    for judge in task.scales:
        yield "reward", judge, partial(AnsweredCell.values, judge=judge)
    yield "refused", "", _of_answers(lambda answer: float(answer.row.refused is True))
    yield "proposed_tokens", "", _of_answers(lambda answer: float(answer.usage.proposed_tokens))
    yield "seconds", "", _of_timings(lambda usage: usage.seconds.total)
    yield "seconds_to_first_text", "", _of_timings(first_text_seconds)


def _of_answers(which: Callable[[TracedAnswer], float]) -> Callable[[AnsweredCell], ByPrompt]:
    return lambda cell: values_by_prompt((answer.prompt, which(answer)) for answer in cell.traced)


def _of_timings(which: Callable[[Usage], float]) -> Callable[[AnsweredCell], ByPrompt]:
    return lambda cell: {prompt: [which(usage) for usage in usages] for prompt, usages in cell.timed.items()}


def wins_of(task: AnsweredTask) -> list[PairedWins]:
    """Every pair of methods by every judge of single answers, on the prompts that both answered.

    A judge of pairs saw each method beside one and the same other, and so said nothing of any other pair.
    """
    rates = [
        (judge, method, other, _won(task, judge, method, other))
        for judge in task.scales
        if not any(item.orders for cell in task.cells.values() for item in cell.judgements[judge])
        for method, other in combinations(task.cells, 2)
    ]
    return [
        PairedWins(judge=judge, method=method, other=other, **rate.model_dump())
        for judge, method, other, rate in rates
        if rate is not None
    ]


def _won(task: AnsweredTask, judge: str, method: str, other: str) -> WinRate | None:
    mine, theirs = task.cells[method].means(judge), task.cells[other].means(judge)
    # Each answer was valued alone, so that a pair has one verdict, in no order.
    verdicts = {
        prompt: [(EVEN + 0.5 * ((mine[prompt] > theirs[prompt]) - (mine[prompt] < theirs[prompt])),)]
        for prompt in mine
        if prompt in theirs
    }
    return win_rate(verdicts, task.seed)
