"""Rejections, costs and waiting by how hard a prompt is.

Hard is a prompt whose plain answer the judge likes little: the guard has something to do there. Answers that
are drawn together share every pass, so waiting is told by forward passes, which do not depend on the machine,
and in seconds only for those that were drawn alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from stars_guard.batch.answers import RowResult
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import DifficultyAnalysis
from stars_guard.evaluation.cells import prompt_id, rows_by_prompt
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.studies.answered import AnsweredTask
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.tables import ReportTable, TableEntry
from stars_guard.settings import StoredRecord

_COLUMNS = (
    *("part", "method", "answers", "attempts_per_segment", "low", "high", "rejected", "forced", "refused"),
    *("proposed_per_kept", "forward_passes", "seconds"),
)


class DifficultyPart(StoredRecord):
    """One method on the prompts of one part."""

    method: str
    part: int
    """Number of the part, from 1, the hardest."""
    prompts: int
    answers: int
    attempts_per_segment: MeanEstimate | None
    """Candidates judged for each segment; None where no segment was judged."""
    rejected: float
    """Share of judged candidates that did not become part of the answer."""
    forced: MeanEstimate | None
    """Share of answers with a segment that no candidate earned."""
    refused: MeanEstimate | None
    """Share of answers that were refused."""
    proposed_per_kept: float
    """Tokens drawn for each one kept."""
    forward_passes: float
    """Median of the passes through the model that an answer took part in."""
    seconds: float | None
    """Median wall time of the answers that were drawn alone; None where none was."""


class DifficultyProfile(StoredRecord):
    """All methods on all parts."""

    bounds: tuple[tuple[float, float], ...]
    """Lowest and highest value of the plain answers in each part, by the judge."""
    parts: tuple[DifficultyPart, ...]


def difficulty(task: AnsweredTask, analysis: DifficultyAnalysis) -> StudyFinding:
    """The profile of every method that answered the task.

    Args:
        task: after its evaluation.
        analysis: says how many parts.

    Raises:
        ConfigurationError: there are fewer prompts than parts, or no judge.
    """
    values = task.judged_plain()
    groups = hardest_first(values, analysis.parts)
    parts = [
        part
        for method in task.methods
        for number, group in enumerate(groups, start=1)
        if (part := _part(task, method, number, group)) is not None
    ]
    bounds = [(min(values[p] for p in group), max(values[p] for p in group)) for group in groups]
    return task.finding(
        title=f"What hard prompts cost: {analysis.parts} parts by {task.judge} of the plain answer",
        figures=DifficultyProfile(bounds=tuple(bounds), parts=tuple(parts)),
        table=ReportTable(columns=tuple((name, "number") for name in _COLUMNS), rows=tuple(map(_row, parts))),
        plot=_plot(parts),
    )


def hardest_first(values: Mapping[str, float], parts: int) -> list[list[str]]:
    """Prompts in parts of about equal size, those with the lowest values first.

    Args:
        values: of the plain answers, by prompt.
        parts: how many parts.

    Raises:
        ConfigurationError: there are fewer prompts than parts.
    """
    ordered = sorted(values, key=lambda prompt: (values[prompt], prompt))
    if len(ordered) < parts:
        raise ConfigurationError(f"parts={parts}, and only {len(ordered)} prompts were judged; take fewer")
    ends = [round(number * len(ordered) / parts) for number in range(parts + 1)]
    return [ordered[begin:end] for begin, end in pairwise(ends)]


def _part(task: AnsweredTask, method: str, number: int, prompts: Sequence[str]) -> DifficultyPart | None:
    chosen = set(prompts)
    rows = [row for row in task.rows(method) if row.error is None and prompt_id(row.id) in chosen]
    if not rows:
        return None
    waits = [t.usage.seconds.total for t in task.timings(method) if t.usage and prompt_id(t.row) in chosen]
    attempts, segments = (sum(_counted(row, name) for row in rows) for name in ("attempts", "segments"))
    kept = sum(row.usage.kept_tokens for row in rows if row.usage)
    proposed = sum(row.usage.proposed_tokens for row in rows if row.usage)
    return DifficultyPart(
        method=method,
        part=number,
        prompts=len({prompt_id(row.id) for row in rows}),
        answers=len(rows),
        attempts_per_segment=_mean(
            task, [row for row in rows if _counted(row, "segments")], _attempts_per_segment
        ),
        rejected=1 - min(attempts, segments) / attempts if attempts else 0.0,
        forced=_mean(task, rows, lambda row: float(_counted(row, "forced") > 0)),
        refused=_mean(task, rows, lambda row: float(row.refused is True)),
        proposed_per_kept=proposed / kept if kept else float(proposed),
        forward_passes=median(row.usage.forward_passes if row.usage else 0 for row in rows),
        seconds=median(waits) if waits else None,
    )


def _counted(row: RowResult, name: str) -> int:
    return int((row.summary or {}).get(name, 0))


def _attempts_per_segment(row: RowResult) -> float:
    return _counted(row, "attempts") / _counted(row, "segments")


def _mean(
    task: AnsweredTask, rows: Sequence[RowResult], value: Callable[[RowResult], float]
) -> MeanEstimate | None:
    return bootstrapped(rows_by_prompt((row.id, value(row)) for row in rows), task.evaluation.seed)


def _row(part: DifficultyPart) -> tuple[TableEntry, ...]:
    attempts = part.attempts_per_segment
    return (
        *(part.part, part.method, part.answers),
        *((attempts.value, attempts.low, attempts.high) if attempts else (None, None, None)),
        *(
            part.rejected,
            part.forced and part.forced.value,
            part.refused and part.refused.value,
            part.proposed_per_kept,
        ),
        *(part.forward_passes, part.seconds),
    )


def _plot(parts: Sequence[DifficultyPart]) -> StudyPlot:
    measured = [(part, part.attempts_per_segment) for part in parts]
    series = {
        part.method: tuple(
            PlotPoint(x=float(other.part), y=attempts.value, low=attempts.low, high=attempts.high)
            for other, attempts in measured
            if attempts is not None and other.method == part.method
        )
        for part in parts
    }
    return StudyPlot(
        x="part, the hardest first",
        y="attempts per segment",
        series=tuple(PlotSeries(name=name, points=points) for name, points in series.items()),
    )
