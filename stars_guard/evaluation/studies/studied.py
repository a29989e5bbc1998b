"""One task of an evaluation as an analysis sees it: its answers, whose word counts, and what was found."""

from __future__ import annotations

from functools import cached_property

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.analyses import Analysis
from stars_guard.evaluation.answered import AnsweredCell, AnsweredTask
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.studies.records import StudyFinding, StudyPlot
from stars_guard.evaluation.tables import ReportTable
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.evaluation.tasks.sources import task_prompts
from stars_guard.settings import StoredRecord


class StudiedTask:
    """One task under an analysis.

    Args:
        evaluation: the evaluation.
        results: what it found.
        folder: its output.
        analysis: says which task, and whose word counts.

    Attributes:
        name: of the task.
    """

    def __init__(
        self, evaluation: EvalPlan, results: Results, folder: EvalFolder, analysis: Analysis
    ) -> None:
        self.evaluation, self.folder = evaluation, folder
        self.name = analysis.task or next(iter(evaluation.tasks))
        self._answered = AnsweredTask.of(folder, results, self.name)
        self._judge = analysis.judge or next(iter(self._answered.judges), None)
        self._kind = analysis.kind

    @property
    def has_judge(self) -> bool:
        """Whether somebody judged the answers."""
        return self._judge is not None

    @property
    def judge(self) -> str:
        """Name of the judge whose word counts.

        Raises:
            ConfigurationError: the task has no judge.
        """
        if self._judge is None:
            raise ConfigurationError(f"analysis {self._kind!r} needs a judge, and {self.name!r} has none")
        return self._judge

    @property
    def methods(self) -> list[str]:
        """Names of the methods that answered."""
        return list(self._answered.cells)

    @cached_property
    def prompts(self) -> list[EvalPrompt]:
        """The prompts, in their order."""
        return task_prompts(self.evaluation.tasks[self.name], self.evaluation.seed)

    def cell(self, method: str) -> AnsweredCell:
        """A method's answers.

        Raises:
            ConfigurationError: it did not answer this task.
        """
        return self._answered.cell(method)

    def judgements(self, method: str) -> dict[str, Judgement]:
        """What the judge said of a method's answers, by the ids of rows.

        Raises:
            ConfigurationError: the method did not answer, or the task has no judge.
        """
        return {judgement.id: judgement for judgement in self.cell(method).judgements[self.judge]}

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
