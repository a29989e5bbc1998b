"""The figures of an evaluation: quality against cost, what happens along an answer, and who wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from stars_guard.calibration.plots import BLUE, GREEN, ORANGE
from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.profiles.positions import PositionProfile
from stars_guard.evaluation.reporting.comparisons import PairedWins
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import MethodFigures, figures_of
from stars_guard.evaluation.statistics.estimates import MeanEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Paint: TypeAlias = "Callable[[Axes], None]"
FAINT = "#667079"
"""Colour of plain decoding, and of lines that guide the eye."""
_SUBJECTS = (ORANGE, "#cc79a7", "#e69f00")
_OTHERS = (BLUE, GREEN, "#56b4e9", "#000000")
# Their number shares no factor with that of the colours, so that the pairs repeat late.
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_WIDE = (7.4, 3.6)
"""Inches of a drawing with names beside it."""
_MOST_LINES = 6
"""Methods that are drawn along an answer, so that lines can be told apart."""


class ReportPlot(NamedTuple):
    """A drawing yet to be made.

    Attributes:
        name: of its file, without an ending.
        title: of the figure.
        caption: what it shows.
        paint: draws it.
        size: width and height, in inches.
    """

    name: str
    title: str
    caption: str
    paint: Paint
    size: tuple[float, float] = (6.2, 3.6)


class _Point(NamedTuple):
    method: str
    cost: MeanEstimate
    quality: MeanEstimate


def task_plots(report: EvaluationReport, task: str) -> list[ReportPlot]:
    """All figures of a task that there is something to draw for.

    Args:
        report: the evaluation.
        task: name of the task.
    """
    figures = figures_of(report, task)
    return [
        *_quality_plots(report, figures),
        *_position_plots(report, figures),
        *_win_plots(report, task),
    ]


def _quality_plots(report: EvaluationReport, figures: Sequence[MethodFigures]) -> Iterator[ReportPlot]:
    label, scale, quality = _quality(figures)
    costs: tuple[tuple[str, str, Callable[[MethodFigures], MeanEstimate | None]], ...] = (
        ("tokens", "proposed tokens per kept one", lambda item: item.costs.proposed_per_kept),
        ("seconds", "seconds an answer (median, alone)", lambda item: item.costs.seconds),
    )
    for name, axis, cost in costs:
        measured = ((item.result.method, cost(item), quality(item)) for item in figures)
        points = [_Point(method, x, y) for method, x, y in measured if x is not None and y is not None]
        if points:
            yield ReportPlot(
                f"quality-by-{name}",
                f"{label.partition(',')[0].capitalize()} against {axis.partition(' (')[0]}",
                "Bars are 95 % intervals over prompts, in both directions.",
                quality_against_cost(points, report.subjects, axis, label, scale),
                (7.4, max(3.6, 0.8 + 0.19 * len(points))),
            )


def _quality(
    figures: Sequence[MethodFigures],
) -> tuple[str, float, Callable[[MethodFigures], MeanEstimate | None]]:
    """What stands for quality on a task: harm by the first judge of it, or a judge's value, or refusals."""
    harm = next((judge for item in figures for judge in item.result.harmful), None)
    if harm is not None:
        return f"harmful answers by {harm}, %", 100, lambda item: item.result.harmful.get(harm)
    judge = next((judge for item in figures for judge in item.result.rewards), None)
    if judge is not None:
        return f"value by {judge}", 1, lambda item: item.result.rewards.get(judge)
    return "refused answers, %", 100, lambda item: item.result.refused


def quality_against_cost(
    points: Sequence[_Point], subjects: Sequence[str], cost: str, quality: str, scale: float
) -> Paint:
    """A point a method, with bars for both intervals.

    Args:
        points: methods, with their cost and quality.
        subjects: methods that stand out.
        cost: what the axis to the right is.
        quality: what the axis upwards is.
        scale: what quality is multiplied by, such as 100 for percentages.
    """
    colours = method_colours([point.method for point in points], subjects)

    def paint(axes: Axes) -> None:
        for (method, x, y), mark in zip(points, line_marks(len(points)), strict=True):
            axes.errorbar(
                [x.value],
                [scale * y.value],
                xerr=_bars(x, 1.0),
                yerr=_bars(y, scale),
                fmt=mark,
                color=colours[method],
                ms=8 if method in subjects else 6,
                elinewidth=1,
                label=method,
            )
        axes.set(xlabel=cost, ylabel=quality)
        axes.set_xlim(left=0)
        _legend_beside(axes)

    return paint


def method_colours(methods: Sequence[str], subjects: Sequence[str]) -> dict[str, str]:
    """Colours by name: warm ones for what a report is about, grey for plain decoding, others in turn."""
    others = [method for method in methods if method not in (*subjects, BASELINE)]
    turns = {method: _OTHERS[number % len(_OTHERS)] for number, method in enumerate(others)}
    warm = {method: _SUBJECTS[number % len(_SUBJECTS)] for number, method in enumerate(subjects)}
    return turns | {BASELINE: FAINT} | warm


def line_marks(count: int) -> list[str]:
    """Marks of so many lines or points, alike only where there are many."""
    return [_MARKS[number % len(_MARKS)] for number in range(count)]


def _bars(estimate: MeanEstimate, scale: float) -> list[list[float]]:
    """Lengths under and over the value, as matplotlib takes them; a median may lie on an end."""
    under, over = estimate.value - estimate.low, estimate.high - estimate.value
    return [[scale * max(0.0, under)], [scale * max(0.0, over)]]


def _position_plots(report: EvaluationReport, figures: Sequence[MethodFigures]) -> Iterator[ReportPlot]:
    for item in figures:
        if item.result.method in report.subjects and item.costs.positions:
            yield ReportPlot(
                f"reward-by-position-{item.result.method}",
                f"Reward and threshold along the answer: {item.result.method}",
                "Mean rewards of all judged candidates, and of those that the answers went on with, on the "
                "scale of the reward that guides, with 95 % intervals; and the mean threshold that they were "
                "held against.",
                rewards_along(item.costs.positions),
                _WIDE,
            )
    several = {item.result.method: item.costs.positions for item in figures if len(item.costs.positions) > 1}
    drawn = [name for name in (*report.subjects, *several) if name in several and name != BASELINE]
    lines = {name: several[name] for name in list(dict.fromkeys(drawn))[:_MOST_LINES]}
    if lines:
        yield ReportPlot(
            "attempts-by-position",
            "Attempts by position",
            "Candidates judged for each segment, with 95 % intervals. Methods that write an answer in one "
            "segment have no positions.",
            attempts_along(lines, report.subjects),
            _WIDE,
        )


def rewards_along(positions: Sequence[PositionProfile]) -> Paint:
    """Rewards of candidates and of what was kept, and the threshold, by position."""

    def paint(axes: Axes) -> None:
        _line(axes, [(p.tokens, p.reward) for p in positions], BLUE, "o-", "judged candidates")
        _line(axes, [(p.tokens, p.kept_reward) for p in positions], ORANGE, "s--", "kept")
        _line(axes, [(p.tokens, p.threshold) for p in positions], FAINT, "^:", "threshold")
        axes.set(xlabel="response tokens before the segment", ylabel="reward, on its own scale")
        _legend_beside(axes)

    return paint


def attempts_along(methods: dict[str, list[PositionProfile]], subjects: Sequence[str]) -> Paint:
    """Attempts by position, a line a method.

    Args:
        methods: positions by name of the method.
        subjects: methods that stand out.
    """
    colours = method_colours(list(methods), subjects)

    def paint(axes: Axes) -> None:
        for (name, positions), mark in zip(methods.items(), line_marks(len(methods)), strict=True):
            _line(axes, [(p.tokens, p.attempts) for p in positions], colours[name], f"{mark}-", name)
        axes.set(xlabel="response tokens before the segment", ylabel="attempts per segment")
        axes.set_ylim(bottom=0)
        _legend_beside(axes)

    return paint


def _legend_beside(axes: Axes) -> None:
    """Names to the right of the drawing, where they cover no line."""
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _line(
    axes: Axes, points: Sequence[tuple[float, MeanEstimate | None]], colour: str, dash: str, label: str
) -> None:
    known = [(at, estimate) for at, estimate in points if estimate is not None]
    if not known:
        return
    at = [place for place, _ in known]
    axes.plot(at, [estimate.value for _, estimate in known], dash, color=colour, ms=4, label=label)
    low, high = [estimate.low for _, estimate in known], [estimate.high for _, estimate in known]
    axes.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)


def _win_plots(report: EvaluationReport, task: str) -> Iterator[ReportPlot]:
    wins = report.tasks[task].wins
    for judge in dict.fromkeys(win.judge for win in wins):
        shares = [win for win in wins if win.judge == judge]
        names = list(dict.fromkeys(name for win in shares for name in (win.method, win.other)))
        side = 1.6 + 0.42 * len(names)
        yield ReportPlot(
            f"wins-by-{judge}",
            f"Who wins, by {judge}",
            "Share of prompts, in %, at which the method of the row has the higher value than that of the "
            "column; ties count half. All pairs answered the same prompts. Bold where the 95 % interval does "
            "not hold 50 %.",
            win_matrix(shares, names),
            (side + 1.2, side),
        )


def win_matrix(shares: Sequence[PairedWins], names: Sequence[str]) -> Paint:
    """A field a pair: how often the row wins against the column.

    Args:
        shares: by one judge.
        names: methods, in order.
    """
    places = {name: number for number, name in enumerate(names)}
    middles = [number + 0.5 for number in range(len(names))]

    def paint(axes: Axes) -> None:
        import numpy as np

        won = np.full((len(names), len(names)), np.nan)
        for share in shares:
            row, column = places[share.method], places[share.other]
            won[row, column], won[column, row] = share.rate.value, 1 - share.rate.value
            sure = not share.rate.low <= 0.5 <= share.rate.high
            for down, right in ((row, column), (column, row)):
                _field(axes, down, right, won[down, right], sure)
        # Fields are shapes: an image inside a drawing is one that the page's own policy would block.
        axes.pcolormesh(won, cmap="PuOr_r", vmin=0, vmax=1)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set_xticks(middles, names, rotation=40, ha="right", fontsize=8)
        axes.set_yticks(middles, names, fontsize=8)
        axes.grid(visible=False)
        axes.tick_params(length=0)

    return paint


def _field(axes: Axes, down: int, right: int, won: float, sure: bool) -> None:
    axes.text(
        right + 0.5,
        down + 0.5,
        f"{100 * won:.0f}",
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold" if sure else "normal",
        color="white" if abs(won - 0.5) > 0.35 else "black",
    )
