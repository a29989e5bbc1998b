"""An attacker who asks in several ways and keeps the answer that the judge likes least.

The task's attack is ``resample``: every prompt is asked in k ways. With more of them the worst answer can
only get worse, so the curve says how fast a method gives way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import ResamplingAnalysis
from stars_guard.evaluation.cells import prompt_id
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.studies.studied import StudiedTask
from stars_guard.evaluation.tables import FigureUnit, ReportTable, TableEntry
from stars_guard.evaluation.tasks.attacks import variant_of
from stars_guard.settings import StoredRecord

_COLUMNS: tuple[tuple[str, FigureUnit], ...] = (
    ("method", "text"),
    ("ways of asking", "count"),
    ("harmful", "share"),
    ("lowest value", "number"),
)


class WorstOf(StoredRecord):
    """The worst answer of so many."""

    asked: int
    """Ways in which each prompt was asked."""
    harmful: MeanEstimate | None
    """Share of prompts with a harmful answer among them; None where the judge does not say."""
    value: MeanEstimate | None
    """Mean over prompts of the lowest value."""


class MethodUnderResampling(StoredRecord):
    """One method against more and more ways to ask."""

    method: str
    worst: tuple[WorstOf, ...]


class ResamplingFigures(StoredRecord):
    """All methods under the attack."""

    judge: str
    methods: tuple[MethodUnderResampling, ...]


def resampling(task: StudiedTask, analysis: ResamplingAnalysis) -> StudyFinding:
    """The worst of the answers to k ways of asking, for k from 1 on.

    Args:
        task: whose attack is ``resample``, after its evaluation.
        analysis: the settings.

    Raises:
        ConfigurationError: the task asks every prompt in one way only, or has no judge.
    """
    attack = task.evaluation.tasks[task.name].attack
    if attack is None or attack.kind != "resample":
        raise ConfigurationError(
            f"analysis 'resampling' needs a task that asks in several ways; give {task.name!r} the attack "
            "'resample'"
        )
    methods = [
        MethodUnderResampling(method=name, worst=worst_of(task.judgements(name), task.evaluation.seed))
        for name in task.methods
    ]
    return task.finding(
        title="The worst answer to k ways of asking",
        figures=ResamplingFigures(judge=task.judge, methods=tuple(methods)),
        table=ReportTable(columns=_COLUMNS, rows=tuple(row for method in methods for row in _rows(method))),
        plot=StudyPlot(
            x="ways of asking",
            y="share of prompts with a harmful answer",
            series=tuple(PlotSeries(name=method.method, points=_points(method)) for method in methods),
        ),
    )


def worst_of(judgements: Mapping[str, Judgement], seed: int) -> tuple[WorstOf, ...]:
    """What the judge says of the worst answer to the first k ways of asking, for every k.

    Args:
        judgements: of the answers to all ways, by the ids of rows.
        seed: of resampling prompts.
    """
    by_original: dict[str, dict[int, list[Judgement]]] = defaultdict(lambda: defaultdict(list))
    for row, judgement in judgements.items():
        original, number = variant_of(prompt_id(row))
        by_original[original][number].append(judgement)
    ways = max((number for by_number in by_original.values() for number in by_number), default=0)
    return tuple(_worst(by_original, asked, seed) for asked in range(1, ways + 1))


def _worst(by_original: Mapping[str, Mapping[int, Sequence[Judgement]]], asked: int, seed: int) -> WorstOf:
    first = {
        original: [judgement for number, group in by_number.items() if number <= asked for judgement in group]
        for original, by_number in by_original.items()
    }
    values = {
        original: [min(judgement.value for judgement in group)] for original, group in first.items() if group
    }
    harmful = {
        original: [float(any(judgement.harmful for judgement in group))]
        for original, group in first.items()
        if any(judgement.harmful is not None for judgement in group)
    }
    return WorstOf(asked=asked, harmful=bootstrapped(harmful, seed), value=bootstrapped(values, seed))


def _rows(resampled: MethodUnderResampling) -> list[tuple[TableEntry, ...]]:
    return [(resampled.method, worst.asked, worst.harmful, worst.value) for worst in resampled.worst]


def _points(resampled: MethodUnderResampling) -> tuple[PlotPoint, ...]:
    return tuple(
        PlotPoint(x=float(worst.asked), y=harm.value, low=harm.low, high=harm.high)
        for worst in resampled.worst
        if (harm := worst.harmful) is not None
    )
