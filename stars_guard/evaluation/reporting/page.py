"""An evaluation as one HTML page, which needs no other file and no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from stars_guard.calibration.plots import drawn
from stars_guard.calibration.report import CaptionedPlot
from stars_guard.errors import needs_extra
from stars_guard.evaluation.cells import prompt_id, read_answers
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.reporting.claims import Claim, claims_of, losses_of, summary_of
from stars_guard.evaluation.reporting.conditions import conditions_of
from stars_guard.evaluation.reporting.plots import ReportPlot, task_plots
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.sections import TitledTable, task_tables
from stars_guard.evaluation.reporting.study_plots import study_plots
from stars_guard.evaluation.reporting.tables import difference_table
from stars_guard.evaluation.studies.records import StudyFinding
from stars_guard.evaluation.tables import ReportTable
from stars_guard.evaluation.tasks.sources import task_prompts
from stars_guard.report import page


@dataclass(frozen=True, repr=False)
class AnsweredPrompt:
    """A prompt and what every method answered.

    Attributes:
        prompt: its text.
        answers: names of methods, each with a text.
    """

    prompt: str
    answers: Sequence[tuple[str, str]]


AnswersOf: TypeAlias = Callable[[str], Sequence[AnsweredPrompt]]
"""Prompts and answers of a task, by its name."""


class _Subject(NamedTuple):
    name: str
    summary: str
    claims: Sequence[Claim]
    losses: Sequence[str]


class _Study(NamedTuple):
    finding: StudyFinding
    figures: Sequence[CaptionedPlot]


@dataclass(frozen=True, repr=False)
class _Part:
    task: str
    subjects: Sequence[_Subject]
    tables: Sequence[TitledTable]
    differences: ReportTable
    figures: Sequence[CaptionedPlot]
    answers: Sequence[AnsweredPrompt]


def no_answers(task: str) -> list[AnsweredPrompt]:
    """No texts: what a model answered to harmful prompts may be harmful itself."""
    return []


def answers_in(output: Path, evaluation: EvalPlan) -> AnswersOf:
    """Prompts and answers of an evaluation that is over.

    Args:
        output: its folder.
        evaluation: its settings.
    """
    folder = EvalFolder(output)

    def answers(task: str) -> list[AnsweredPrompt]:
        texts: dict[str, list[tuple[str, str]]] = {}
        for method in evaluation.methods_of(task):
            for row in read_answers(folder.answers(task, method)):
                texts.setdefault(prompt_id(row.id), []).append((method, row.text or "no answer"))
        prompts = task_prompts(evaluation.tasks[task], evaluation.seed)
        return [
            AnsweredPrompt(prompt.as_prompt.as_text(), texts[prompt.id])
            for prompt in prompts
            if prompt.id in texts
        ]

    return answers


def html_page(report: EvaluationReport, answers: AnswersOf = no_answers) -> str:
    """The page; everything that models and users wrote is escaped.

    Args:
        report: the evaluation.
        answers: texts to be shown, folded.

    Raises:
        MissingExtraError: jinja2, matplotlib or pyyaml is not installed.
    """
    return page(
        "evaluation.html.jinja",
        "eval",
        report=report,
        conditions=conditions_of(report),
        parts=[_part(report, task, answers(task)) for task in report.tasks],
        studies=[_Study(item, [_inline(plot) for plot in study_plots(item)]) for item in report.findings],
        settings=_as_yaml(report.results.evaluation),
    )


def _part(report: EvaluationReport, task: str, answers: Sequence[AnsweredPrompt]) -> _Part:
    return _Part(
        task=task,
        subjects=[
            _Subject(
                name,
                summary_of(report, task, name),
                claims_of(report, task, name),
                losses_of(report, task, name),
            )
            for name in report.subjects_on(task)
        ],
        tables=task_tables(report, task),
        differences=difference_table(report, task),
        figures=[_inline(plot) for plot in task_plots(report, task)],
        answers=answers,
    )


def _inline(plot: ReportPlot) -> CaptionedPlot:
    from markupsafe import Markup

    # matplotlib escapes the texts that it writes into a drawing.
    return CaptionedPlot(plot.title, Markup(drawn(plot.paint, extra="eval", size=plot.size)), plot.caption)


def _as_yaml(settings: Mapping[str, object]) -> str:
    with needs_extra("eval", "pyyaml"):
        import yaml
    text: str = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return text
