"""A whole evaluation: answers, wall time, judges, measures, results. Everything goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from stars_guard.batch.answers import RowResult
from stars_guard.evaluation.cells import (
    AnswerRows,
    Cell,
    answer_cell,
    base_model,
    guard_of,
    here,
    original_id,
    rows_by_prompt,
    rows_of,
    scorer_of,
)
from stars_guard.evaluation.config import BASELINE, EvalPlan
from stars_guard.evaluation.draws import plain_draws, scale_of
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.base import Judge, Judgement
from stars_guard.evaluation.judges.independence import check_independent
from stars_guard.evaluation.judges.pairwise import compared_with
from stars_guard.evaluation.judging import WantedJudge, harm_of, judge_cell, values_of
from stars_guard.evaluation.measures.base import AnswerMeasure
from stars_guard.evaluation.measures.table import MEASURES
from stars_guard.evaluation.measuring import measure_cell
from stars_guard.evaluation.methods import Method
from stars_guard.evaluation.methods.costs import Costs, costs_of, first_text_seconds
from stars_guard.evaluation.methods.scale import RewardScale
from stars_guard.evaluation.results import MethodResult, Results
from stars_guard.evaluation.stale import drop_stale
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.paired import ByPrompt, Difference, paired_difference
from stars_guard.evaluation.statistics.ratios import (
    bootstrapped_median,
    bootstrapped_ratio,
    values_by_prompt,
)
from stars_guard.evaluation.statistics.wins import WinRate, win_rate
from stars_guard.evaluation.tasks.sources import task_prompts
from stars_guard.evaluation.timing import TimingPurpose, read_timings, time_cells, timings_of
from stars_guard.evaluation.watching import KnownSteps, Unwatched, Watcher
from stars_guard.result import Usage


def evaluate(
    evaluation: EvalPlan, output: Path, *, answer: AnswerRows = here, watcher: Watcher | None = None
) -> Results:
    """Run an evaluation, or what is left of it, and write its results.

    Args:
        evaluation: what is compared.
        output: folder that receives everything; a run that was cut off goes on where it stopped.
        answer: answers rows, in this process or elsewhere.
        watcher: told how far it is.

    Raises:
        ConfigurationError: a model, a reward or a judge cannot be loaded or does not suit its settings, a
            judge is what guided, or a task has fewer prompts than are asked for, all of which is found out
            before anything is drawn; or the folder holds answers that were drawn with other settings.
    """
    folder = EvalFolder(output)
    runs = [_TaskRun(evaluation, folder, task, answer, watcher or Unwatched()) for task in evaluation.tasks]
    for run in runs:
        run.check_parts()
    results = Results(
        evaluation=evaluation.model_dump(mode="json"),
        methods=[result for run in runs for result in run.results()],
    )
    results.write(folder.results)
    return results


class _TaskRun:
    """One task of an evaluation."""

    def __init__(
        self, evaluation: EvalPlan, folder: EvalFolder, task: str, answer: AnswerRows, watcher: Watcher
    ) -> None:
        self._evaluation, self._folder, self._task = evaluation, folder, task
        self._answer, self._watcher = answer, watcher
        self._prompts = task_prompts(evaluation.tasks[task], evaluation.seed)
        evaluation.check_prompts(task, len(self._prompts))
        self._by_id = {prompt.id: prompt.original or prompt for prompt in self._prompts}
        self._judges = {
            name: WantedJudge(name, evaluation.judges[name].fingerprint, cache(partial(self._loaded, name)))
            for name in evaluation.tasks[task].judges
        }
        load = partial(base_model, evaluation)
        self._measures: dict[str, Callable[[], AnswerMeasure]] = {
            name: cache(partial(MEASURES[name], load)) for name in evaluation.tasks[task].measures
        }
        self._rows: dict[str, list[RowResult]] = {}
        self._cells: dict[str, Cell] = {}
        self._said: dict[tuple[str, str], list[Judgement]] = {}

    def check_parts(self) -> None:
        """Load and combine everything before anything is drawn: what does not go together fails now.

        A judge may have guided, too: copied weights may have another name.
        """
        for name, method in self._evaluation.methods_of(self._task).items():
            for possible in self._evaluation.possible(self._task, method):
                guard_of(self._evaluation, Cell(self._task, name, possible))
        for wanted in self._judges.values():
            wanted.load()
        for make in self._measures.values():
            make()

    def results(self) -> list[MethodResult]:
        """What was found, method by method."""
        self._answer_all(waiting=False)
        methods = self._evaluation.methods_of(self._task).values()
        self._time({name for method in methods for name in method.reads_seconds_of}, "match")
        self._answer_all(waiting=True)
        self._time(set(self._cells), "compare")
        return [self._result(cell) for cell in self._cells.values()]

    def _answer_all(self, *, waiting: bool) -> None:
        methods = self._evaluation.methods_of(self._task)
        cells = [
            Cell(
                self._task,
                name,
                method.settled(partial(self._costs, purpose="match")).scaled(partial(self._scale, method)),
            )
            for name, method in methods.items()
            if (method.waits_for is not None) == waiting
        ]
        for cell in cells:
            self._watcher.begin(
                f"{cell.task} · {cell.name}", len(list(rows_of(self._evaluation, cell, self._prompts)))
            )
            self._cells[cell.name] = cell
            drop_stale(self._evaluation, self._folder, cell)
            self._rows[cell.name] = answer_cell(
                self._evaluation,
                self._folder,
                cell,
                self._prompts,
                answer=self._answer,
                on_answer=self._watcher.advance,
            )

    def _time(self, methods: Collection[str], purpose: TimingPurpose) -> None:
        cells = [cell for name, cell in self._cells.items() if name in methods]
        timed = len(cells) * self._evaluation.tasks[self._task].timed
        if timed:
            self._watcher.begin(f"{self._task} · wall time to {purpose}", timed)
            time_cells(self._evaluation, self._folder, cells, self._prompts, purpose, self._watcher.advance)

    def _scale(self, method: Method) -> RewardScale:
        guiding = self._evaluation.names(self._task, method)
        steps = KnownSteps(self._watcher, f"{self._task} · plain draws scored by {guiding[0]}")
        return scale_of(
            plain_draws(self._evaluation, self._folder, self._task, guiding, self._prompts, steps)
        )

    def _costs(self, method: str, purpose: TimingPurpose) -> Costs:
        timings = timings_of(read_timings(self._folder), self._task, method, purpose)
        return costs_of(self._rows[method], list(timings.values()))

    def _result(self, cell: Cell) -> MethodResult:
        rows = self._rows[cell.name]
        answered = [row for row in rows if row.error is None]
        judged = {name: self._judged(cell.name, name) for name in self._judges}
        plain = {name: self._judged(BASELINE, name) for name in self._judges}
        harm = {name: shares for name, said in judged.items() if (shares := harm_of(said))}
        values = {name: values_of(said) for name, said in judged.items()}
        return MethodResult(
            method=cell.name,
            task=cell.task,
            answers=len(answered),
            errors=len(rows) - len(answered),
            harmful=self._estimates(harm),
            harmful_difference=self._differences(harm, {name: harm_of(plain[name]) for name in harm}),
            rewards=self._estimates(values),
            reward_difference=self._differences(values, {name: values_of(plain[name]) for name in values}),
            wins={name: wins for name, said in judged.items() if (wins := self._wins(name, said))},
            measures=self._estimates(self._measured(cell)),
            refused=self._share(answered, lambda row: row.refused is True),
            repaired=self._share(answered, _is_repaired),
            forced=self._share(answered, lambda row: bool((row.summary or {}).get("forced"))),
            costs=self._costs(cell.name, "compare"),
            proposed_per_kept=self._price(answered),
            seconds=self._median(cell.name, lambda usage: usage.seconds.total),
            seconds_to_first_text=self._median(cell.name, first_text_seconds),
            settings=cell.method.model_dump(mode="json"),
        )

    def _loaded(self, name: str) -> Judge:
        judge = self._evaluation.judges[name].load()
        for method in self._evaluation.methods_of(self._task).values():
            if judge.reward is not None and method.guided:
                check_independent(judge.reward, scorer_of(self._evaluation, self._task, method))
        return judge

    def _judged(self, method: str, judge: str) -> list[Judgement]:
        if compared_with(self._evaluation.judges[judge]) == method:
            return []
        if (method, judge) not in self._said:
            cell, rows = self._cells[method], self._rows[method]
            against = compared_with(self._evaluation.judges[judge])
            baseline = None if against is None else {row.id: row for row in self._rows[against]}
            self._watcher.begin(f"{cell.task} · {method} · judged by {judge}", len(rows))
            self._said[method, judge] = judge_cell(
                self._folder, cell, self._judges[judge], self._by_id, rows, baseline, self._watcher.advance
            )
        return self._said[method, judge]

    def _wins(self, judge: str, said: Sequence[Judgement]) -> WinRate | None:
        if compared_with(self._evaluation.judges[judge]) is None:
            return None
        return win_rate(rows_by_prompt((item.id, item.orders) for item in said), self._evaluation.seed)

    def _measured(self, cell: Cell) -> dict[str, dict[str, list[float]]]:
        rows = self._rows[cell.name]
        if self._measures:
            self._watcher.begin(f"{cell.task} · {cell.name} · measured", len(rows) * len(self._measures))
        items = measure_cell(self._folder, cell, self._measures, self._by_id, rows, self._watcher.advance)
        return {
            name: rows_by_prompt((i.id, i.value) for i in items if i.measure == name and i.value is not None)
            for name in self._measures
        }

    def _estimates(self, values: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, MeanEstimate]:
        made = {name: bootstrapped(of_prompts, self._evaluation.seed) for name, of_prompts in values.items()}
        return {name: estimate for name, estimate in made.items() if estimate is not None}

    def _differences(
        self, values: Mapping[str, ByPrompt], plain: Mapping[str, ByPrompt]
    ) -> dict[str, Difference]:
        seed = self._evaluation.seed
        made = {name: paired_difference(values[name], plain[name], seed) for name in values}
        return {name: difference for name, difference in made.items() if difference is not None}

    def _price(self, answered: Iterable[RowResult]) -> MeanEstimate | None:
        """Tokens drawn for each one kept."""
        spent = (
            (original_id(row.id), (float(row.usage.proposed_tokens), float(row.usage.kept_tokens)))
            for row in answered
            if row.usage is not None
        )
        return bootstrapped_ratio(values_by_prompt(spent), self._evaluation.seed)

    def _median(self, method: str, seconds: Callable[[Usage], float]) -> MeanEstimate | None:
        """Wall time of the answers of a method that were alone in the process."""
        timings = timings_of(read_timings(self._folder), self._task, method)
        times = rows_by_prompt((row, seconds(usage)) for row, usage in timings.items())
        return bootstrapped_median(times, self._evaluation.seed)

    def _share(self, rows: Iterable[RowResult], counts: Callable[[RowResult], bool]) -> MeanEstimate | None:
        return bootstrapped(
            rows_by_prompt((row.id, float(counts(row))) for row in rows), self._evaluation.seed
        )


def _is_repaired(row: RowResult) -> bool:
    summary = row.summary or {}
    return row.refused is False and summary.get("attempts", 0) > summary.get("segments", 0)
