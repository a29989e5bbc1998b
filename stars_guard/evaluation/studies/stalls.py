"""Stalls: segments at which an answer did not get on, where they are, what they cost, and the worst cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from stars_guard.algorithm.trace import SegmentTrace, Trace, Verdict
from stars_guard.evaluation.analyses import StallAnalysis
from stars_guard.evaluation.cells import rows_by_prompt
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
    *("method", "answers", "stalled", "low", "high", "stalls", "at_first_segment", "ended_refused"),
    *("ended_forced", "share_of_attempts", "most_attempts"),
)


class StallCase(StoredRecord):
    """One segment that many candidates were drawn for. Its texts are not told."""

    row: str
    """Id of the row."""
    segment: int
    """Number of the segment, from 0."""
    prefix_tokens: int
    """Response tokens before it."""
    attempts: int
    verdict: Verdict


class MethodStalls(StoredRecord):
    """Stalls of one method."""

    method: str
    answers: int
    stalled: MeanEstimate | None
    """Share of answers with a stall; None without answers."""
    stalls: int
    by_segment: dict[int, int]
    """Stalls by number of the segment, from 0."""
    by_verdict: dict[str, int]
    """Stalls by what became of the segment."""
    share_of_attempts: float
    """Share of all judged candidates that stalls took."""
    worst: tuple[StallCase, ...]
    """Stalls with the most attempts, the longest first."""


class StallFigures(StoredRecord):
    """Stalls of every method that answered."""

    attempts: int
    """Attempts at a segment from which on it counts as a stall."""
    methods: tuple[MethodStalls, ...]


def stalls(task: AnsweredTask, analysis: StallAnalysis) -> StudyFinding:
    """Stalls of every method.

    Args:
        task: after its evaluation.
        analysis: says what is a stall.
    """
    found = [stalls_of(name, task.traces(name), analysis, seed=task.evaluation.seed) for name in task.methods]
    return task.finding(
        title=f"Segments that took {analysis.attempts} attempts or that no candidate earned",
        figures=StallFigures(attempts=analysis.attempts, methods=tuple(found)),
        table=ReportTable(columns=tuple((name, "number") for name in _COLUMNS), rows=tuple(map(_row, found))),
        plot=StudyPlot(x="number of the segment", y="stalls per answer", series=tuple(map(_series, found))),
    )


def stalls_of(
    method: str, traces: Mapping[str, Trace], analysis: StallAnalysis, *, seed: int = 0
) -> MethodStalls:
    """Stalls in the traces of one method.

    Args:
        method: its name.
        traces: by the ids of rows.
        analysis: says what is a stall.
        seed: of resampling.
    """
    cases = [
        StallCase(
            row=row,
            segment=segment.index,
            prefix_tokens=segment.prefix_tokens,
            attempts=len(segment.attempts),
            verdict=segment.verdict,
        )
        for row, trace in traces.items()
        for segment in trace.segments
        if _is_stall(segment, analysis.attempts)
    ]
    stalled = {case.row for case in cases}
    judged = sum(trace.attempts for trace in traces.values())
    return MethodStalls(
        method=method,
        answers=len(traces),
        stalled=bootstrapped(rows_by_prompt((row, float(row in stalled)) for row in traces), seed),
        stalls=len(cases),
        by_segment=dict(sorted(Counter(case.segment for case in cases).items())),
        by_verdict=dict(sorted(Counter(case.verdict.value for case in cases).items())),
        share_of_attempts=sum(case.attempts for case in cases) / judged if judged else 0.0,
        worst=tuple(sorted(cases, key=lambda case: -case.attempts)[: analysis.worst]),
    )


def _is_stall(segment: SegmentTrace, attempts: int) -> bool:
    unearned = Verdict.FORCED, Verdict.REFUSED, Verdict.EXHAUSTED, Verdict.BACKTRACKED
    return len(segment.attempts) >= attempts or segment.verdict in unearned


def _row(found: MethodStalls) -> tuple[TableEntry, ...]:
    share = found.stalled
    return (
        *(found.method, found.answers),
        *((share.value, share.low, share.high) if share else (None, None, None)),
        *(found.stalls, found.by_segment.get(0, 0)),
        *(found.by_verdict.get(verdict.value, 0) for verdict in (Verdict.REFUSED, Verdict.FORCED)),
        *(found.share_of_attempts, max((case.attempts for case in found.worst), default=None)),
    )


def _series(found: MethodStalls) -> PlotSeries:
    points: Sequence[PlotPoint] = [
        PlotPoint(x=float(segment), y=count / found.answers) for segment, count in found.by_segment.items()
    ]
    return PlotSeries(name=found.method, points=tuple(points))
