"""Plots of what studies found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stars_guard.evaluation.reporting.plots import Paint, ReportPlot, line_marks, method_colours
from stars_guard.evaluation.studies.records import PlotPoint, PlotSeries, StudyFinding, StudyPlot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 8
"""Lines that a legend names; of more, none can be told apart."""


def study_plots(finding: StudyFinding) -> list[ReportPlot]:
    """The plot of a finding, where there is something to draw.

    Args:
        finding: what a study found.
    """
    plot = finding.plot
    if plot is None or not any(series.points for series in plot.series):
        return []
    return [
        ReportPlot(
            f"study-{finding.name}",
            finding.title,
            f"{plot.y[0].upper()}{plot.y[1:]} by {plot.x}{_with_intervals(plot)}.",
            lines_of(plot),
            (6.2, 3.6) if len(_named(plot)) <= 4 else (7.4, 3.6),
        )
    ]


def lines_of(plot: StudyPlot) -> Paint:
    """A line a series, with a bar for every interval; places with names stand in the order of the points.

    Args:
        plot: what is drawn.
    """
    series = [each for each in plot.series if each.points]
    places = _places(series)
    colours = method_colours([each.name for each in series], ())

    def paint(axes: Axes) -> None:
        for each, mark in zip(series, line_marks(len(series)), strict=True):
            axes.errorbar(
                [places[point.x] for point in each.points],
                [point.y for point in each.points],
                yerr=_reach(each.points),
                fmt=mark + ("-" if _is_along(each) else ""),
                color=colours[each.name],
                ms=5,
                elinewidth=1,
                label=each.name,
            )
        axes.set(xlabel=plot.x, ylabel=plot.y)
        if names := [place for place in places if isinstance(place, str)]:
            axes.set_xticks(range(len(names)), names, rotation=25 if len(names) > 4 else 0, fontsize=8)
        if _named(plot):
            axes.legend(fontsize=8, loc="best" if len(series) <= 4 else "center left", **_beside(series))

    return paint


def _places(series: Sequence[PlotSeries]) -> dict[float | str, float]:
    """Where each place is on the axis: itself, or its number in order where places have names."""
    places = dict.fromkeys(point.x for each in series for point in each.points)
    if any(isinstance(place, str) for place in places):
        return {place: float(number) for number, place in enumerate(places)}
    return {place: float(place) for place in places}


def _is_along(series: PlotSeries) -> bool:
    """Whether the points are places along a number, between which a line means something."""
    return not any(isinstance(point.x, str) for point in series.points)


def _reach(points: Sequence[PlotPoint]) -> list[list[float]] | None:
    """Lengths under and over the points, as matplotlib takes them; None where no point has an interval."""
    if all(point.low is None or point.high is None for point in points):
        return None
    under = [max(0.0, point.y - (point.y if point.low is None else point.low)) for point in points]
    over = [max(0.0, (point.y if point.high is None else point.high) - point.y) for point in points]
    return [under, over]


def _named(plot: StudyPlot) -> Sequence[PlotSeries]:
    """Series that a legend names."""
    series = [each for each in plot.series if each.points]
    return series if 1 < len(series) <= _MOST_NAMED else ()


def _beside(series: Sequence[PlotSeries]) -> dict[str, tuple[float, float]]:
    return {} if len(series) <= 4 else {"bbox_to_anchor": (1.0, 0.5)}


def _with_intervals(plot: StudyPlot) -> str:
    has = any(point.low is not None for series in plot.series for point in series.points)
    return ", with 95 % intervals" if has else ""
