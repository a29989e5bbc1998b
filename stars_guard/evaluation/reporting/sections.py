"""The tables of a task, each with its title, for every kind of report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.reporting.conditions import meanings_of
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import (
    MethodFigures,
    cost_columns,
    counts_table,
    difficulty_table,
    figures_of,
    method_table,
    price_columns,
    quality_columns,
    worst_columns,
)
from stars_guard.evaluation.tables import ReportTable

_FORCED = (
    "Repaired: a candidate was rejected, and the answer not refused; forced: a segment was shown that no "
    "candidate earned. Best-of-N does both to every answer by design: it shows its best candidate, whatever "
    "that scores."
)
_TOKENS = (
    "Means per answer. Rejected: judged and not chosen; hopeless: where no candidate was accepted; "
    "withdrawn: accepted and taken back; ahead wasted: drawn before the segment in "
    "front of them was scored, and then of no use; unseen: drawn, never judged."
)
_ALONE = "Seconds are medians of answers that were drawn alone."
_WHOLE = (
    " Equal costs are those of the whole N that is nearest; a difference that is left stands in the table."
)
_WAITS = "A wait is the work between two pieces of text that are shown, or before a refusal."


class TitledTable(NamedTuple):
    """A table and its title."""

    title: str
    table: ReportTable


def equal_costs(report: EvaluationReport, task: str, subject: str) -> ReportTable:
    """A method, plain decoding, and what spends as many tokens, or as much time, as the method.

    Args:
        report: the evaluation.
        task: name of the task.
        subject: name of the method.
    """
    figures = figures_of(report, task)
    labels = {name: f"{name}, at equal tokens" for name in report.matched(task, subject, "tokens")}
    labels |= {name: f"{name}, at equal wall time" for name in report.matched(task, subject, "seconds")}
    wanted = [BASELINE, subject, *labels]
    rows = [item for item in figures if item.result.method in wanted]
    table = method_table(rows, [*quality_columns(figures), *price_columns()])
    renamed = ((labels.get(str(name), name), *entries) for name, *entries in table.rows)
    return ReportTable(
        columns=table.columns,
        rows=tuple(renamed),
        note=_ALONE + (_WHOLE if labels else ""),
    )


def _beside(report: EvaluationReport, task: str, subject: str) -> str:
    """Title of the table of equal costs: what there is beside the method."""
    costs: dict[Literal["tokens", "seconds"], str] = {"tokens": "tokens", "seconds": "wall time"}
    equal = [f"at equal {words}" for by, words in costs.items() if report.matched(task, subject, by)]
    return f"{subject}, {' and '.join(equal) or 'beside plain decoding'}"


def task_tables(report: EvaluationReport, task: str) -> list[TitledTable]:
    """All tables of a task: quality, costs, worst cases, difficulty.

    Args:
        report: the evaluation.
        task: name of the task.
    """
    figures = figures_of(report, task)
    return [
        *(
            TitledTable(_beside(report, task, subject), equal_costs(report, task, subject))
            for subject in report.subjects_on(task)
        ),
        *_of_all(figures),
        TitledTable("By difficulty", difficulty_table(figures, report.tasks[task].difficulty)),
    ]


def _of_all(figures: Sequence[MethodFigures]) -> Iterator[TitledTable]:
    quality = [*quality_columns(figures), *price_columns()]
    measures = dict.fromkeys(name for item in figures for name in item.result.measures)
    yield TitledTable("All methods", method_table(figures, quality, f"{_FORCED} {meanings_of(measures)}"))
    yield TitledTable("What an answer costs", method_table(figures, cost_columns(), _TOKENS))
    yield TitledTable("Worst cases", method_table(figures, worst_columns(), _WAITS))
    yield TitledTable("What was counted", counts_table(figures))
