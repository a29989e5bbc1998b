"""An attacker who has the probe's weights, and writes suffixes that make it like harmful answers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import GradientAnalysis
from stars_guard.evaluation.cells import prompt_id
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.studies.studied import StudiedTask
from stars_guard.evaluation.tables import ReportTable
from stars_guard.settings import StoredRecord


class AttackedAnswer(StoredRecord):
    """One answer, and what its reward became. Neither it nor the suffix is told."""

    row: str
    """Id of the row."""
    before: float
    """Reward of the answer to the prompt as it was."""
    rewards: tuple[float, ...]
    """Best reward after each step of the search."""


class GradientFigures(StoredRecord):
    """All answers under the attack."""

    probe: str
    target: float | None
    """Reward that the guard asks of a whole answer; None where the probe guides nothing here."""
    raised: MeanEstimate | None
    """Mean rise of the reward."""
    passed_before: float | None
    """Share of these answers that reach the target as they are; None without a target."""
    passed_after: float | None
    answers: tuple[AttackedAnswer, ...]


def gradient(task: StudiedTask, analysis: GradientAnalysis) -> StudyFinding:
    """The answers that the judge likes least, and what a suffix does to the probe's reward of them.

    Args:
        task: after its evaluation.
        analysis: says which probe and how far the attacker goes.

    Raises:
        ConfigurationError: the reward is no probe of the evaluation's first model, or no prompt is a text.
    """
    answers = _attacked(task, analysis)
    if not answers:
        raise ConfigurationError("analysis 'gradient': no answer to a single question was judged")
    target = next(
        (
            each.config.threshold.target
            for each in task.evaluation.rewards.values()
            if each.name == analysis.probe
        ),
        None,
    )
    rises = {answer.row: [answer.rewards[-1] - answer.before] for answer in answers}
    figures = GradientFigures(
        probe=analysis.probe,
        target=target,
        raised=bootstrapped(rises, task.evaluation.seed),
        passed_before=_passed([answer.before for answer in answers], target),
        passed_after=_passed([answer.rewards[-1] for answer in answers], target),
        answers=tuple(answers),
    )
    return task.finding(
        title="What a suffix by gradient does to the probe's reward of a harmful answer",
        figures=figures,
        table=_table(figures),
        plot=StudyPlot(x="step of the search", y="reward", series=tuple(map(_series, answers))),
    )


def _attacked(task: StudiedTask, analysis: GradientAnalysis) -> list[AttackedAnswer]:
    from stars_guard.training.attack import ProbeAttacker, SuffixSearch

    evaluation = task.evaluation
    asked = {prompt.id: prompt.prompt for prompt in task.prompts if prompt.prompt is not None}
    values = {row: said.value for row, said in task.judgements(analysis.method).items()}
    worst = sorted(
        (
            row
            for row in task.cell(analysis.method).rows
            if row.id in values and prompt_id(row.id) in asked and row.text
        ),
        key=lambda row: values[row.id],
    )[: analysis.prompts]
    attacker = ProbeAttacker.load(next(iter(evaluation.models.values())), analysis.probe)
    search = SuffixSearch(
        tokens=analysis.suffix_tokens, steps=analysis.steps, tried=analysis.tried, seed=evaluation.seed
    )
    attacks = [
        (row, attacker.search(asked[prompt_id(row.id)] or "", row.text or "", search)) for row in worst
    ]
    return [
        AttackedAnswer(row=row.id, before=attack.before, rewards=attack.rewards) for row, attack in attacks
    ]


def _table(figures: GradientFigures) -> ReportTable:
    return ReportTable(
        columns=(
            ("probe", "text"),
            ("answers", "count"),
            ("rise of the reward", "number"),
            ("reach the target", "share"),
            ("reach it with the suffix", "share"),
        ),
        rows=(
            (
                *(figures.probe, len(figures.answers), figures.raised),
                *(figures.passed_before, figures.passed_after),
            ),
        ),
        note="" if figures.target is None else f"The target of the guard is {figures.target:g}.",
    )


def _passed(rewards: Sequence[float], target: float | None) -> float | None:
    return None if target is None else fmean(reward >= target for reward in rewards)


def _series(answer: AttackedAnswer) -> PlotSeries:
    steps = enumerate((answer.before, *answer.rewards))
    return PlotSeries(
        name=answer.row, points=tuple(PlotPoint(x=float(step), y=reward) for step, reward in steps)
    )
