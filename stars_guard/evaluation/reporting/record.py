"""Everything that reports show, from an evaluation's folder: figures, and no text of prompts or answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from stars_guard.evaluation.answered import AnsweredTask
from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.profiles.costs import CostProfile, cost_profile
from stars_guard.evaluation.reporting.comparisons import (
    PairedComparison,
    PairedWins,
    comparisons_of,
    wins_of,
)
from stars_guard.evaluation.results import MethodResult, Results
from stars_guard.evaluation.stored import read_stored
from stars_guard.evaluation.studies.records import StudyFinding, StudyFindings
from stars_guard.settings import StoredRecord

_Record = TypeVar("_Record", bound=StoredRecord)


class TaskReport(StoredRecord):
    """One task: costs of every method, and how the methods compare on the same prompts."""

    costs: dict[str, CostProfile]
    """By name of the method."""
    difficulty: str
    """What prompts are ordered by in :attr:`CostProfile.bands`, in words."""
    comparisons: list[PairedComparison]
    """Differences between each method that the report is about and every other."""
    wins: list[PairedWins]
    """Every pair of methods by every judge."""


class EvaluationReport(StoredRecord):
    """An evaluation's results, with all that its files say of costs and comparisons."""

    version: Literal[1] = 1
    name: str
    """Name of the evaluation."""
    command: str
    """What made it."""
    subjects: tuple[str, ...]
    """Names of the methods that the report is about."""
    results: Results
    tasks: dict[str, TaskReport]
    """By name of the task."""
    findings: list[StudyFinding] = Field(default_factory=list)
    """What studies found, without their figures, all of which are in the evaluation's folder."""

    def methods_of(self, task: str) -> list[MethodResult]:
        """The results on a task, in the order of the evaluation."""
        return [result for result in self.results.methods if result.task == task]

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task; None where it did not answer that task."""
        return next((result for result in self.methods_of(task) if result.method == method), None)

    def subjects_on(self, task: str) -> list[str]:
        """Methods that the report is about which answered a task."""
        return [subject for subject in self.subjects if subject in self.tasks[task].costs]

    def matched(self, task: str, subject: str, by: Literal["tokens", "seconds"]) -> list[str]:
        """Methods on a task that spend as much as another does.

        Args:
            task: name of the task.
            subject: name of the other method.
            by: what is equal.
        """
        settings = self.results.evaluation["methods"]
        given = {result.method: settings.get(result.method, {}) for result in self.methods_of(task)}
        return [
            name
            for name, values in given.items()
            if values.get("match") == subject and values.get("by") == by
        ]

    def write(self, path: Path) -> None:
        """Write it as one line of JSON."""
        path.write_text(self.model_dump_json() + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, path: Path) -> EvaluationReport:
        """Read what :meth:`write` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        return read_stored(cls, path, "the record of an evaluation's report", "move it elsewhere")


def report_of(output: Path, *, name: str, command: str) -> EvaluationReport:
    """The report of an evaluation that has its results.

    Args:
        output: its folder.
        name: what to call it.
        command: what made it.
    """
    folder = EvalFolder(output)
    results = Results.read(folder.results)
    subjects = subjects_of(results)
    tasks = dict.fromkeys(result.task for result in results.methods)
    return EvaluationReport(
        name=name,
        command=command,
        subjects=subjects,
        results=results,
        tasks={
            task: _rounded(_task_report(AnsweredTask.of(folder, results, task), subjects)) for task in tasks
        },
        findings=_findings(folder.studies),
    )


def _findings(path: Path) -> list[StudyFinding]:
    """What studies found; none where the evaluation has no studies."""
    found = StudyFindings.read(path).findings if path.exists() else []
    return [_rounded(finding.model_copy(update={"figures": {}})) for finding in found]


def _rounded(record: _Record) -> _Record:
    """Figures cut to five digits, more than their intervals can bear, so that records stay small."""
    return type(record).model_validate(_with_few_digits(record.model_dump(mode="json")))


def _with_few_digits(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _with_few_digits(part) for name, part in value.items()}
    return [_with_few_digits(part) for part in value] if isinstance(value, list) else value


def subjects_of(results: Results) -> tuple[str, ...]:
    """The methods that a report is about: those whose costs others match, or a guard as it is deployed."""
    names = list(dict.fromkeys(result.method for result in results.methods))
    settings = results.evaluation["methods"]
    targets = {settings.get(name, {}).get("match") for name in names}
    kinds = {result.method: result.settings.get("kind") for result in results.methods}
    matched = [name for name in names if name in targets]
    guards = [name for name in names if kinds[name] == "guarded"]
    others = [name for name in names if name != BASELINE]
    return tuple(matched) or tuple((guards or others or names)[:1])


def _task_report(answered: AnsweredTask, subjects: Sequence[str]) -> TaskReport:
    there = [subject for subject in subjects if subject in answered.cells]
    ease, difficulty = _ease(answered, (there or list(answered.cells))[0])
    return TaskReport(
        costs={
            method: cost_profile(cell.traced, cell.timed, ease, answered.seed)
            for method, cell in answered.cells.items()
        },
        difficulty=difficulty,
        comparisons=[item for subject in there for item in comparisons_of(answered, subject)],
        wins=wins_of(answered),
    )


def _ease(answered: AnsweredTask, method: str) -> tuple[Mapping[str, float], str]:
    """How easy each prompt is, by a judge's values of plain answers or a method's attempts; and by what."""
    for judge in answered.judges:
        if values := answered.cell(BASELINE).means(judge):
            return values, f"the value that the judge {judge} gave the answers of {BASELINE}"
    attempts: dict[str, float] = {}
    for answer in answered.cell(method).traced:
        attempts[answer.prompt] = attempts.get(answer.prompt, 0.0) - answer.trace.attempts
    return attempts, f"the attempts that {method} needed"
