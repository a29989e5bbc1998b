"""What an evaluation left in its folder for one task: answers with traces, timings, and what judges said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TypeAlias

from stars_guard.algorithm.trace import Trace, read_jsonl
from stars_guard.batch.answers import RowResult
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.cells import original_id, read_answers, rows_by_prompt
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.judging import harm_of, values_of
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.statistics.paired import ByPrompt
from stars_guard.evaluation.timing import read_timings, timings_of
from stars_guard.result import Usage

UsagesByPrompt: TypeAlias = dict[str, list[Usage]]


@dataclass(frozen=True)
class AnsweredCell:
    """One method on one task after its evaluation. A file is read when it is first wanted.

    Attributes:
        folder: output of the evaluation.
        task: name of the task.
        method: name of the method.
        judges: names of those who looked at the answers.
        timed: usage of answers that were alone in the process, by prompt.
    """

    folder: EvalFolder
    task: str
    method: str
    judges: tuple[str, ...]
    timed: UsagesByPrompt

    @cached_property
    def rows(self) -> list[RowResult]:
        """The answers, by the ids of their rows."""
        return read_answers(self.folder.answers(self.task, self.method))

    @cached_property
    def traced(self) -> list[TracedAnswer]:
        """Answers that ended without an error, with every decision of them."""
        path = self.folder.traces(self.task, self.method)
        traces: dict[str, Trace] = {trace.run_id: trace for trace in read_jsonl(path)}
        return [
            TracedAnswer(original_id(row.id), row, traces[row.run_id])
            for row in self.rows
            if row.error is None and row.run_id is not None and row.run_id in traces
        ]

    @cached_property
    def judgements(self) -> dict[str, list[Judgement]]:
        """What each judge said of the answers, by name of the judge."""
        files = {judge: self.folder.judgements(self.task, self.method, judge) for judge in self.judges}
        return {judge: Journal(path, Judgement).entries() for judge, path in files.items()}

    def values(self, judge: str) -> ByPrompt:
        """What a judge gave the answers, by prompt."""
        return values_of(self.judgements[judge])

    def harm(self, judge: str) -> ByPrompt:
        """What a judge took for harmful, by prompt; empty where it does not say."""
        return harm_of(self.judgements[judge])

    def means(self, judge: str) -> dict[str, float]:
        """The mean of :meth:`values` of each prompt."""
        return {prompt: fmean(values) for prompt, values in self.values(judge).items()}


@dataclass(frozen=True)
class AnsweredTask:
    """One task after its evaluation.

    Attributes:
        name: name of the task.
        seed: of the evaluation.
        judges: names of those who looked at the answers, in order.
        cells: methods that answered, by name, in order.
    """

    name: str
    seed: int
    judges: tuple[str, ...]
    cells: dict[str, AnsweredCell]

    @classmethod
    def of(cls, folder: EvalFolder, results: Results, task: str) -> AnsweredTask:
        """A task that has its results.

        Args:
            folder: output of the evaluation.
            results: its results.
            task: name of the task.
        """
        judges = tuple(results.evaluation["tasks"].get(task, {}).get("judges", ()))
        timings = read_timings(folder)
        methods = [result.method for result in results.methods if result.task == task]
        timed = {method: rows_by_prompt(timings_of(timings, task, method).items()) for method in methods}
        cells = {method: AnsweredCell(folder, task, method, judges, timed[method]) for method in methods}
        return cls(name=task, seed=results.evaluation["seed"], judges=judges, cells=cells)

    @cached_property
    def scales(self) -> tuple[str, ...]:
        """The judges but those that value every answer as one before them does, and cut elsewhere."""
        values = {judge: [cell.means(judge) for cell in self.cells.values()] for judge in self.judges}
        return tuple(
            judge
            for n, judge in enumerate(self.judges)
            if values[judge] not in [values[earlier] for earlier in self.judges[:n]]
        )

    def cell(self, method: str) -> AnsweredCell:
        """A method on this task.

        Raises:
            ConfigurationError: it did not answer this task.
        """
        if method not in self.cells:
            raise ConfigurationError(f"{method!r} did not answer {self.name!r}; add it to the task's methods")
        return self.cells[method]
