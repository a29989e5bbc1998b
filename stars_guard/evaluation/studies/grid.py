"""A study of one method's settings: quality and costs by value."""

from __future__ import annotations

from collections.abc import Iterable

from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.results import MethodResult, Results
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.tables import FigureUnit, ReportTable, TableEntry
from stars_guard.settings import StoredRecord

_COLUMNS: tuple[tuple[str, FigureUnit], ...] = (
    ("answers", "count"),
    ("harmful", "share"),
    ("refused", "share"),
    ("forced", "share"),
    ("tokens per kept one", "number"),
    ("reward calls", "number"),
    ("forward passes", "number"),
    ("seconds", "seconds"),
)


class GridFigures(StoredRecord):
    """Figures of every value, by its label."""

    method: str
    """Name of the method that varies."""
    settings: tuple[str, ...]
    """Names of the settings that vary, in the order of the labels' parts."""
    values: dict[str, MethodResult]


def grid_finding(evaluation: EvalPlan, results: Results, study: str) -> StudyFinding:
    """The values of a study, side by side.

    Args:
        evaluation: has the study.
        results: of the whole evaluation.
        study: its name.
    """
    grid = evaluation.studies[study]
    answered = {result.method: result for result in results.methods if result.task == grid.task}
    names = [name for name in evaluation.studied(study) if name in answered]
    values = {name.removeprefix(f"{study}="): answered[name] for name in names}
    figures = GridFigures(method=grid.method, settings=tuple(grid.vary), values=values)
    return StudyFinding(
        name=study,
        kind="grid",
        task=grid.task,
        title=f"{grid.method}: {' and '.join(grid.vary)}",
        figures=figures.model_dump(mode="json"),
        table=ReportTable(
            columns=((" · ".join(grid.vary), "text"), *_COLUMNS),
            rows=tuple(_row(*item) for item in values.items()),
        ),
        plot=StudyPlot(x=", ".join(grid.vary), y="share of answers", series=_series(values.items())),
    )


def _row(label: str, result: MethodResult) -> tuple[TableEntry, ...]:
    costs = result.costs
    return (
        *(label, result.answers, _harmful(result), result.refused, result.forced),
        # Results of earlier versions have no intervals of these two.
        result.proposed_per_kept or costs.proposed_per_kept,
        *(costs.reward_calls, costs.forward_passes),
        result.seconds or costs.seconds,
    )


def _harmful(result: MethodResult) -> MeanEstimate | None:
    return next(iter(result.harmful.values()), None)


def _series(values: Iterable[tuple[str, MethodResult]]) -> tuple[PlotSeries, ...]:
    listed = list(values)
    harmful = [(label, _harmful(result)) for label, result in listed]
    refused = [(label, result.refused) for label, result in listed]
    return tuple(
        PlotSeries(name=name, points=tuple(_point(label, estimate) for label, estimate in points if estimate))
        for name, points in (("harmful", harmful), ("refused", refused))
    )


def _point(label: str, estimate: MeanEstimate) -> PlotPoint:
    return PlotPoint(x=label, y=estimate.value, low=estimate.low, high=estimate.high)
