"""The files of one task of an evaluation: answers with their traces, timings, and what judges said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from stars_guard.algorithm.trace import Trace, read_jsonl
from stars_guard.evaluation.cells import prompt_id, read_answers
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.statistics.paired import ByPrompt
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.evaluation.timing import Timing, read_timings
from stars_guard.result import Usage

UsagesByPrompt: TypeAlias = dict[str, list[Usage]]


@dataclass(frozen=True)
class TaskRecords:
    """Everything that was kept of a task.

    Attributes:
        task: name of the task.
        seed: of the evaluation.
        methods: those that answered, in order.
        judges: those that looked at the answers, in order.
        traced: answers that ended without an error, by method.
        timed: usage of answers that were alone in the process, by method and prompt.
        said: what judges said, by method and judge.
    """

    task: str
    seed: int
    methods: tuple[str, ...]
    judges: tuple[str, ...]
    traced: dict[str, list[TracedAnswer]]
    timed: dict[str, UsagesByPrompt]
    said: dict[tuple[str, str], list[Judgement]]

    @classmethod
    def of(cls, folder: EvalFolder, results: Results, task: str) -> TaskRecords:
        """The records of a task that has its results.

        Args:
            folder: output of the evaluation.
            results: its results.
            task: name of the task.
        """
        methods = tuple(result.method for result in results.methods if result.task == task)
        judges = tuple(results.evaluation["tasks"].get(task, {}).get("judges", ()))
        timings = [timing for timing in read_timings(folder) if timing.task == task]
        return cls(
            task=task,
            seed=results.evaluation["seed"],
            methods=methods,
            judges=judges,
            traced={method: _traced(folder, task, method) for method in methods},
            timed={method: _timed(timings, method) for method in methods},
            said={
                (method, judge): Journal(folder.judgements(task, method, judge), Judgement).entries()
                for method in methods
                for judge in judges
            },
        )

    def values(self, method: str, judge: str) -> ByPrompt:
        """What a judge gave the answers of a method, by prompt."""
        return values_by_prompt((prompt_id(item.id), item.value) for item in self.said[method, judge])

    def harm(self, method: str, judge: str) -> ByPrompt:
        """What a judge took for harmful of a method's answers, by prompt; empty where it does not say."""
        said = self.said[method, judge]
        return values_by_prompt(
            (prompt_id(item.id), float(item.harmful)) for item in said if item.harmful is not None
        )

    def means(self, method: str, judge: str) -> dict[str, float]:
        """The mean of :meth:`values` of each prompt."""
        return {prompt: fmean(values) for prompt, values in self.values(method, judge).items()}


def _traced(folder: EvalFolder, task: str, method: str) -> list[TracedAnswer]:
    traces: dict[str, Trace] = {trace.run_id: trace for trace in read_jsonl(folder.traces(task, method))}
    rows = [row for row in read_answers(folder.answers(task, method)) if row.error is None]
    return [
        TracedAnswer(prompt_id(row.id), row, traces[row.run_id])
        for row in rows
        if row.run_id is not None and row.run_id in traces
    ]


def _timed(timings: Sequence[Timing], method: str) -> UsagesByPrompt:
    return values_by_prompt(
        (prompt_id(timing.row), timing.usage)
        for timing in timings
        if timing.method == method and timing.usage is not None
    )
