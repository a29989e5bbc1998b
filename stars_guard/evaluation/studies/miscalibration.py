"""Miscalibration of partial scores: does the reward of a beginning foretell what is said of the whole?

A guard steers by rewards of answers that are not complete. Where they do not go together with the reward of
the whole answer, it steers by something else; where they do not go together with what a judge says, who
guided nothing, the reward itself is not what was wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from stars_guard.algorithm.trace import SegmentTrace, Trace, Verdict
from stars_guard.calibration.description import Estimate
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.calibration.statistics import describe
from stars_guard.evaluation.analyses import MiscalibrationAnalysis
from stars_guard.evaluation.cells import original_id
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.studies.studied import StudiedTask
from stars_guard.evaluation.tables import ReportTable, TableEntry
from stars_guard.settings import StoredRecord

FINAL_REWARD = "final reward"
"""What is foretold where it is no judge's word."""


class AgreementAt(StoredRecord):
    """Beginnings of one length against the whole answers; None where the answers do not determine it."""

    tokens: float
    """Response tokens of the beginnings; their median."""
    answers: int
    """Answers that went on."""
    pearson: Estimate
    spearman: Estimate
    """Correlation of the ranks."""
    auc: Estimate
    """Chance that of two answers, one of those above the median and one of the others, the better one had the
    better beginning."""


class PartialAgreement(StoredRecord):
    """How rewards of beginnings go together with what is said of the whole answers, by position."""

    method: str
    reward: str
    """Name of the reward that scored the beginnings."""
    foretold: str
    """``final reward``, or the name of the judge."""
    positions: tuple[AgreementAt, ...]
    """Agreement by number of the segment."""


class Miscalibration(StoredRecord):
    """Agreement of partial scores, for every method and everything that is foretold."""

    agreements: tuple[PartialAgreement, ...]


def miscalibration(task: StudiedTask, analysis: MiscalibrationAnalysis) -> StudyFinding:
    """How well partial scores foretell the final reward, and the word of a judge where there is one.

    Args:
        task: after its evaluation.
        analysis: says whose answers are looked at.

    Raises:
        ConfigurationError: a method did not answer, or no answer has two segments.
    """
    agreements = [agreement for method in analysis.methods for agreement in _of_method(task, method)]
    return task.finding(
        title="Does the reward of a beginning foretell what is said of the whole answer?",
        figures=Miscalibration(agreements=tuple(agreements)),
        table=_table(agreements),
        plot=_plot(agreements),
    )


def _of_method(task: StudiedTask, method: str) -> list[PartialAgreement]:
    traces = {answer.row.id: answer.trace for answer in task.cell(method).traced}
    finals = {FINAL_REWARD: {row: _kept(trace)[-1][2] for row, trace in traces.items() if _kept(trace)}}
    if task.has_judge:
        finals[task.judge] = {row: said.value for row, said in task.judgements(method).items()}
    reward = next((trace.reward for trace in traces.values()), "")
    return [
        PartialAgreement(
            method=method,
            reward=reward,
            foretold=name,
            positions=_by_position(_answers(traces, final)),
        )
        for name, final in finals.items()
    ]


def _by_position(answers: Sequence[SampledAnswer]) -> tuple[AgreementAt, ...]:
    # What is said of the whole stands last in every answer, and is foretold by what stands before it.
    segments = describe(answers).segments[:-1] if answers else ()
    went_on = [[a.positions[n] for a in answers if n + 1 < len(a.positions)] for n in range(len(segments))]
    return tuple(
        AgreementAt(
            tokens=median(position.tokens[0] for position in positions),
            answers=at.went_on,
            pearson=at.pearson,
            spearman=at.spearman,
            auc=at.auc,
        )
        for at, positions in zip(segments, went_on, strict=True)
    )


def _answers(traces: Mapping[str, Trace], finals: Mapping[str, float]) -> list[SampledAnswer]:
    """Answers as calibration sees them, with what is said of the whole as one more position after the last.

    A beginning that is the whole answer foretells nothing, so the last segment of an answer is left out.
    """
    # describe() resamples prompts by these numbers.
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(map(original_id, traces)))}
    return [
        _answer(numbers[original_id(row)], _kept(trace)[:-1], finals[row])
        for row, trace in traces.items()
        if row in finals and len(_kept(trace)) > 1
    ]


def _answer(prompt: int, kept: Sequence[tuple[int, int, float]], final: float) -> SampledAnswer:
    points = [*kept, (kept[-1][1], kept[-1][1], final)]
    positions = [
        SampledPosition(segment=number, prefix_tokens=before, tokens=(tokens,), rewards=(reward,), chosen=0)
        for number, (before, tokens, reward) in enumerate(points)
    ]
    return SampledAnswer(
        prompt=prompt,
        seed=0,
        max_tokens=kept[-1][1],
        base_reward=0.0,
        positions=tuple(positions),
        finished=True,
    )


def _kept(trace: Trace) -> list[tuple[int, int, float]]:
    """Tokens before and after each segment that was kept, and its reward."""
    return [point for segment in trace.segments if (point := _point(segment)) is not None]


def _point(segment: SegmentTrace) -> tuple[int, int, float] | None:
    if segment.chosen is None or segment.verdict is Verdict.WITHDRAWN:
        return None
    attempt = segment.attempts[segment.chosen]
    return segment.prefix_tokens, segment.prefix_tokens + attempt.tokens, attempt.reward


def _table(agreements: Sequence[PartialAgreement]) -> ReportTable:
    rows = (
        (
            *(agreement.method, agreement.reward, agreement.foretold, at.tokens, at.answers),
            *(_shown(estimate, at.answers) for estimate in (at.pearson, at.spearman, at.auc)),
        )
        for agreement in agreements
        for at in agreement.positions
    )
    return ReportTable(
        columns=(
            ("method", "text"),
            ("reward", "text"),
            ("foretold", "text"),
            ("tokens", "count"),
            ("answers", "count"),
            ("correlation", "number"),
            ("rank correlation", "number"),
            ("AUC", "number"),
        ),
        rows=tuple(rows),
        note="AUC: of telling the better half of answers from the other by the reward of their beginning.",
    )


def _shown(estimate: Estimate, answers: int) -> TableEntry:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.value
    return MeanEstimate(value=estimate.value, low=estimate.low, high=estimate.high, prompts=answers)


def _plot(agreements: Sequence[PartialAgreement]) -> StudyPlot:
    series = [
        PlotSeries(
            name=f"{agreement.method}, {agreement.reward}: {agreement.foretold}",
            points=tuple(
                PlotPoint(x=at.tokens, y=at.spearman.value, low=at.spearman.low, high=at.spearman.high)
                for at in agreement.positions
                if at.spearman.value is not None
            ),
        )
        for agreement in agreements
    ]
    return StudyPlot(
        x="response tokens", y="rank correlation with what is said of the whole", series=tuple(series)
    )
