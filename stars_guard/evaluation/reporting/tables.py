"""Tables of an evaluation: quality and costs side by side, every figure with its interval."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import NamedTuple

from stars_guard.evaluation.profiles.costs import CostProfile
from stars_guard.evaluation.profiles.tokens import TokenFates
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.results import MethodResult
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.tables import FigureUnit, ReportTable, TableEntry, shown

_RATES = ("harmful", "refused")
_BAND_FIGURES: dict[str, tuple[str, FigureUnit]] = {
    "attempts": ("attempts", "number"),
    "rejected": ("rejected", "share"),
    "proposed_per_kept": ("tokens per kept one", "number"),
    "refused": ("refused", "share"),
    "forward_passes": ("forward passes", "number"),
    "seconds": ("seconds", "seconds"),
}
"""Headings and units of what is shown of a :class:`DifficultyBand`, by name of the field."""
_BAND_NOTE = "Rejected: judged and not chosen. Forward passes and seconds are medians."


class MethodFigures(NamedTuple):
    """One method on one task: what its answers were like, and what they cost."""

    result: MethodResult
    costs: CostProfile


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        unit: what its figures are.
        figure: the figure of a method.
    """

    name: str
    unit: FigureUnit
    figure: Callable[[MethodFigures], TableEntry]


def figures_of(report: EvaluationReport, task: str) -> list[MethodFigures]:
    """Every method on a task with its costs, in the order of the evaluation."""
    costs = report.tasks[task].costs
    return [MethodFigures(result, costs[result.method]) for result in report.methods_of(task)]


def quality_columns(figures: Sequence[MethodFigures]) -> list[Column]:
    """What the answers were like; of judges and measures those that there are.

    Args:
        figures: of all methods that the table is about.
    """
    results = [item.result for item in figures]
    harm = _names(result.harmful for result in results)
    rewards = _distinct([result.rewards for result in results])
    paired = _names({n: w for n, w in result.wins.items() if w.orders_agree} for result in results)
    measures = _names(result.measures for result in results)
    return [
        *(Column(f"harmful by {name}", "share", _of_result("harmful", name)) for name in harm),
        *(Column(f"value by {name}", "number", _of_result("rewards", name)) for name in rewards),
        *(Column(f"orders agree by {name}", "share", _of_orders(name)) for name in paired),
        *(Column(name, "number", _of_result("measures", name)) for name in measures),
        Column("refused", "share", lambda item: item.result.refused),
        Column("repaired", "share", lambda item: item.result.repaired),
        Column("forced", "share", lambda item: item.result.forced),
    ]


def price_columns() -> list[Column]:
    """What an answer costs, in three figures."""
    return [
        Column("tokens per kept one", "number", lambda item: item.costs.proposed_per_kept),
        Column("seconds", "seconds", lambda item: item.costs.seconds),
        Column("to first text, s", "seconds", lambda item: item.costs.seconds_to_first_text),
    ]


def cost_columns() -> list[Column]:
    """Everything that an answer costs, as means per answer."""
    fates = [name for name in TokenFates.model_fields if name != "kept"]
    return [
        Column("kept tokens", "number", _of_fate("kept")),
        *(Column(f"{name} tokens".replace("_", " "), "number", _of_fate(name)) for name in fates),
        Column("reward calls", "number", lambda item: item.costs.reward_calls),
        Column("forward passes", "number", lambda item: item.costs.forward_passes),
        Column("attempts", "number", lambda item: item.costs.attempts),
        Column("forced segments", "number", lambda item: item.costs.forced_segments),
    ]


def worst_columns() -> list[Column]:
    """Worst cases: the longest waits, for which segment they are, and what ends them."""
    return [
        Column("longest wait, attempts", "number", _of_stalls("attempts")),
        Column("of all answers", "count", _of_stalls("most_attempts")),
        Column("longest wait, tokens", "number", _of_stalls("tokens")),
        Column("of all answers, tokens", "count", _of_stalls("most_tokens")),
        Column("took every attempt", "share", _of_stalls("at_limit")),
        Column("slowest answer, s", "seconds", lambda item: item.costs.most_seconds),
        Column("longest wait for the first segment", "share", _of_stalls("at_first")),
        Column("for the second", "share", _of_stalls("at_second")),
        Column("for a later one", "share", _of_stalls("later")),
        Column("longest wait ended accepted", "share", _of_stalls("accepted")),
        Column("ended forced", "share", _of_stalls("forced")),
        Column("ended refused", "share", _of_stalls("refused")),
    ]


def method_table(figures: Sequence[MethodFigures], columns: Sequence[Column], note: str = "") -> ReportTable:
    """A row for every method.

    Args:
        figures: of the methods.
        columns: what is said of each.
        note: what readers should know.
    """
    return ReportTable(
        columns=(("method", "text"), *((column.name, column.unit) for column in columns)),
        rows=tuple((item.result.method, *(column.figure(item) for column in columns)) for item in figures),
        note=note,
    )


def counts_table(figures: Sequence[MethodFigures]) -> ReportTable:
    """Answers of every method, and rows that ended with an error and count nowhere."""
    rows = ((i.result.method, _prompts(i.result), i.result.answers, i.result.errors) for i in figures)
    return ReportTable(
        columns=(("method", "text"), ("prompts", "count"), ("answers", "count"), ("errors", "count")),
        rows=tuple(rows),
    )


def difficulty_table(figures: Sequence[MethodFigures], order: str) -> ReportTable:
    """Costs of every method by quarter of the prompts.

    Args:
        figures: of the methods.
        order: what the prompts are ordered by, in words.
    """
    return ReportTable(
        columns=(("method", "text"), ("prompts", "text"), ("number", "count"), *_BAND_FIGURES.values()),
        rows=tuple(
            (item.result.method, band.name, band.prompts, *(getattr(band, name) for name in _BAND_FIGURES))
            for item in figures
            for band in item.costs.bands
        ),
        note=f"Quarters of the prompts by {order}. {_BAND_NOTE}",
    )


def difference_table(report: EvaluationReport, task: str) -> ReportTable:
    """Every figure of the methods that the report is about less that of every other, on the same prompts."""
    compared = report.tasks[task].comparisons
    rows = (
        (
            c.method,
            c.other,
            c.figure.replace("_", " ") + (f" by {c.judge}" if c.judge else ""),
            shown(c.difference.estimate, "share" if c.figure in _RATES else "number"),
            f"{c.difference.chance:.3f}",
            c.verdict,
        )
        for c in compared
    )
    return ReportTable(
        columns=(
            ("method", "text"),
            ("less that of", "text"),
            ("figure", "text"),
            ("difference", "text"),
            ("p", "text"),
            ("verdict", "text"),
        ),
        rows=tuple(rows),
        note="Paired on prompts; p is that of a sign-flip test. Undecided: the interval holds 0, or p is not "
        "under 0.05.",
    )


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


def _names(by_name: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for figures in by_name for name in figures))


def _distinct(by_name: Sequence[Mapping[str, object]]) -> list[str]:
    """The names whose figures no name before them has: a scorer may judge twice, with two cuts."""
    figures = {name: [results.get(name) for results in by_name] for name in _names(by_name)}
    names = list(figures)
    return [name for n, name in enumerate(names) if figures[name] not in [figures[m] for m in names[:n]]]


def _prompts(result: MethodResult) -> int | None:
    return result.refused.prompts if result.refused else None


def _of_result(field: str, name: str) -> Callable[[MethodFigures], TableEntry]:
    return lambda item: getattr(item.result, field).get(name)


def _of_orders(judge: str) -> Callable[[MethodFigures], TableEntry]:
    return lambda item: getattr(item.result.wins.get(judge), "orders_agree", None)


def _of_fate(name: str) -> Callable[[MethodFigures], TableEntry]:
    return lambda item: getattr(item.costs.tokens, name, None)


def _of_stalls(name: str) -> Callable[[MethodFigures], TableEntry]:
    return lambda item: getattr(item.costs.stalls, name, None)
