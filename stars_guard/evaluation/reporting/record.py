"""Everything that reports show, from an evaluation's folder: figures, and no text of prompts or answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.profiles.costs import CostProfile, cost_profile
from stars_guard.evaluation.reporting.answered import TaskRecords
from stars_guard.evaluation.reporting.comparisons import (
    PairedComparison,
    WinShare,
    comparisons_of,
    win_shares,
)
from stars_guard.evaluation.results import MethodResult, Results
from stars_guard.settings import StoredRecord


class TaskReport(StoredRecord):
    """One task: costs of every method, and how the methods compare on the same prompts."""

    costs: dict[str, CostProfile]
    """By name of the method."""
    difficulty: str
    """What prompts are ordered by in :attr:`CostProfile.bands`, in words."""
    comparisons: list[PairedComparison]
    """Differences between the method that the report is about and every other."""
    wins: list[WinShare]
    """Every pair of methods by every judge."""


class EvaluationReport(StoredRecord):
    """An evaluation's results, with all that its files say of costs and comparisons."""

    version: Literal[1] = 1
    name: str
    """Name of the evaluation."""
    command: str
    """What made it."""
    subject: str
    """Name of the method that the report is about."""
    results: Results
    tasks: dict[str, TaskReport]
    """By name of the task."""

    def methods_of(self, task: str) -> list[MethodResult]:
        """The results on a task, in the order of the evaluation."""
        return [result for result in self.results.methods if result.task == task]

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task; None where it did not answer that task."""
        return next((result for result in self.methods_of(task) if result.method == method), None)

    def matched(self, task: str, by: Literal["tokens", "seconds"]) -> list[str]:
        """Methods on a task that spend as much as the subject does.

        Args:
            task: name of the task.
            by: what is equal.
        """
        settings = self.results.evaluation["methods"]
        given = {result.method: settings.get(result.method, {}) for result in self.methods_of(task)}
        return [
            name
            for name, values in given.items()
            if values.get("match") == self.subject and values.get("by") == by
        ]

    def write(self, path: Path) -> None:
        """Write it as JSON, ended by a line end."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8", newline="\n")

    @classmethod
    def read(cls, path: Path) -> EvaluationReport:
        """Read what :meth:`write` wrote."""
        return cls.model_validate_json(path.read_bytes())


def report_of(output: Path, *, name: str, command: str) -> EvaluationReport:
    """The report of an evaluation that has its results.

    Args:
        output: its folder.
        name: what to call it.
        command: what made it.
    """
    folder = EvalFolder(output)
    results = Results.read(folder.results)
    subject = subject_of(results)
    tasks = dict.fromkeys(result.task for result in results.methods)
    return EvaluationReport(
        name=name,
        command=command,
        subject=subject,
        results=results,
        tasks={task: _task_report(TaskRecords.of(folder, results, task), subject) for task in tasks},
    )


def subject_of(results: Results) -> str:
    """The method that a report is about: the first that is the guard as it is deployed, or any but plain."""
    names = list(dict.fromkeys(result.method for result in results.methods))
    kinds = {result.method: result.settings.get("kind") for result in results.methods}
    guards = [name for name in names if kinds[name] == "guarded"]
    others = [name for name in names if name != BASELINE]
    return (guards or others or names)[0]


def _task_report(records: TaskRecords, subject: str) -> TaskReport:
    ease, difficulty = _ease(records, subject)
    return TaskReport(
        costs={
            method: cost_profile(records.traced[method], records.timed.get(method, {}), ease, records.seed)
            for method in records.methods
        },
        difficulty=difficulty,
        comparisons=comparisons_of(records, subject if subject in records.methods else BASELINE),
        wins=win_shares(records),
    )


def _ease(records: TaskRecords, subject: str) -> tuple[Mapping[str, float], str]:
    """How easy each prompt is, and by what that is said."""
    for judge in records.judges:
        if values := records.means(BASELINE, judge):
            return values, f"the value that the judge {judge} gave the answers of {BASELINE}"
    method = subject if subject in records.methods else records.methods[0]
    attempts: dict[str, float] = {}
    for answer in records.traced[method]:
        attempts[answer.prompt] = attempts.get(answer.prompt, 0.0) - answer.trace.attempts
    return attempts, f"the attempts that {method} needed"
