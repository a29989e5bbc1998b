"""What an evaluation left in its folder for one task: answers, traces, judgements and timings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from statistics import fmean

from stars_guard.algorithm.trace import Trace, read_jsonl
from stars_guard.batch.answers import RowResult
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import Analysis
from stars_guard.evaluation.cells import read_answers, rows_by_prompt
from stars_guard.evaluation.config import BASELINE, EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.studies.records import StudyFinding, StudyPlot
from stars_guard.evaluation.tables import ReportTable
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.evaluation.tasks.sources import task_prompts
from stars_guard.evaluation.timing import Timing, read_timings
from stars_guard.settings import StoredRecord


class AnsweredTask:
    """One task after its evaluation.

    Args:
        evaluation: the evaluation.
        folder: its output.
        analysis: says which task, and whose word counts.

    Attributes:
        name: of the task.
        judge: name of the judge whose word counts.

    Raises:
        ConfigurationError: the task has no such judge.
    """

    def __init__(self, evaluation: EvalPlan, folder: EvalFolder, analysis: Analysis) -> None:
        self.evaluation, self.folder = evaluation, folder
        self.name = analysis.task or next(iter(evaluation.tasks))
        judges = evaluation.tasks[self.name].judges
        self._judge = analysis.judge or next(iter(judges), None)
        if self._judge and self._judge not in judges:
            raise ConfigurationError(
                f"analysis {analysis.kind!r}: {self._judge!r} is no judge of {self.name!r}; name one of the "
                f"task's: {', '.join(judges)}"
            )
        self._kind = analysis.kind

    @property
    def has_judge(self) -> bool:
        """Whether somebody judged the answers."""
        return self._judge is not None

    @property
    def judge(self) -> str:
        """The judge's name.

        Raises:
            ConfigurationError: the task has no judge.
        """
        if self._judge is None:
            raise ConfigurationError(f"analysis {self._kind!r} needs a judge, and {self.name!r} has none")
        return self._judge

    @property
    def methods(self) -> list[str]:
        """Names of the methods that answered."""
        return list(self.evaluation.methods_of(self.name))

    @cached_property
    def prompts(self) -> list[EvalPrompt]:
        """The prompts, in their order."""
        return task_prompts(self.evaluation.tasks[self.name], self.evaluation.seed)

    def rows(self, method: str) -> list[RowResult]:
        """The answers of a method.

        Raises:
            ConfigurationError: it did not answer this task.
        """
        path = self.folder.answers(self.name, method)
        if not path.exists():
            raise ConfigurationError(f"{method!r} did not answer {self.name!r}; add it to the task's methods")
        return read_answers(path)

    def traces(self, method: str) -> dict[str, Trace]:
        """The traces of a method's answers, by the ids of rows."""
        path = self.folder.traces(self.name, method)
        by_run = {trace.run_id: trace for trace in read_jsonl(path)} if path.exists() else {}
        return {row.id: by_run[row.run_id] for row in self.rows(method) if row.run_id in by_run}

    def judgements(self, method: str) -> dict[str, Judgement]:
        """What the judge said of a method's answers, by the ids of rows."""
        entries = Journal(self.folder.judgements(self.name, method, self.judge), Judgement).entries()
        return {judgement.id: judgement for judgement in entries}

    def timings(self, method: str) -> list[Timing]:
        """Answers of a method that were drawn alone."""
        timings = read_timings(self.folder)
        return [timing for timing in timings if (timing.task, timing.method) == (self.name, method)]

    def finding(
        self, title: str, figures: StoredRecord, table: ReportTable, plot: StudyPlot | None = None
    ) -> StudyFinding:
        """What the analysis found here.

        Args:
            title: what it says, in words.
            figures: record of the analysis.
            table: the same for readers.
            plot: None where there is nothing to draw.
        """
        return StudyFinding(
            name=self._kind,
            kind=self._kind,
            task=self.name,
            title=title,
            figures=figures.model_dump(mode="json"),
            table=table,
            plot=plot,
        )

    def judged_plain(self) -> dict[str, float]:
        """The judge's value of the plain answers to each prompt; their mean where there are several."""
        return means_by_prompt({row: said.value for row, said in self.judgements(BASELINE).items()})


def means_by_prompt(values: Mapping[str, float]) -> dict[str, float]:
    """Mean of the values of each prompt's rows, by its id."""
    return {prompt: fmean(group) for prompt, group in rows_by_prompt(values.items()).items()}
