"""Every figure of an evaluation on a row of its own, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO

from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import (
    TableEntry,
    cost_columns,
    figures_of,
    price_columns,
    quality_columns,
    worst_columns,
)
from stars_guard.evaluation.statistics.estimates import MeanEstimate


def as_csv(report: EvaluationReport) -> str:
    """All methods on all tasks, a figure a row: task, method, figure, value, low, high, prompts."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "method", "figure", "value", "low", "high", "prompts"))
    writer.writerows(_csv_rows(report))
    return text.getvalue()


def _csv_rows(report: EvaluationReport) -> Iterator[tuple[object, ...]]:
    for task in report.tasks:
        figures = figures_of(report, task)
        columns = [*quality_columns(figures), *price_columns(), *cost_columns(), *worst_columns()]
        for item in figures:
            start = (task, item.result.method)
            yield (*start, "answers", item.result.answers, "", "", "")
            yield (*start, "errors", item.result.errors, "", "", "")
            for column in columns:
                yield (*start, column.name, *_csv_entry(column.figure(item)))


def _csv_entry(entry: TableEntry) -> tuple[object, ...]:
    if isinstance(entry, MeanEstimate):
        return entry.value, entry.low, entry.high, entry.prompts
    return ("" if entry is None else entry), "", "", ""
