"""Wall time of answers that are alone in the process: methods take turns, prompt by prompt.

Rows that are answered together share every batch, so their times say little about one user's wait, and a
machine that slows down for a while would slow one method only. Therefore some prompts are answered again, one
answer at a time, and each by all methods before the next. A method that may spend as many seconds as another
waits for timings of it; these are others than the ones that are compared, since the machine may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, TypeAlias

from stars_guard.evaluation.cells import Cell, evaluation_key, guard_of, here, rows_of
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.result import Usage
from stars_guard.settings import StoredRecord

TimingPurpose: TypeAlias = Literal["match", "compare"]
"""What a timing is for: how much another method may spend; or figures, for which all methods take turns."""


class Timing(StoredRecord):
    """One answer that was drawn alone."""

    purpose: TimingPurpose
    task: str
    method: str
    row: str
    """Id of its row."""
    usage: Usage | None
    """What it cost; None where it ended with an error."""


def time_cells(
    evaluation: EvalPlan,
    folder: EvalFolder,
    cells: Sequence[Cell],
    prompts: Sequence[EvalPrompt],
    purpose: TimingPurpose,
    on_answer: Callable[[], None] = lambda: None,
) -> None:
    """Answer the task's first prompts again, alone, and add to the evaluation's timings what each took.

    Args:
        evaluation: the evaluation.
        folder: its output.
        cells: methods on one task, which take turns.
        prompts: those of the task.
        purpose: what the timings are for.
        on_answer: called for every answer that was timed, now or before.
    """
    wanted = prompts[: evaluation.tasks[cells[0].task].timed] if cells else []
    timings = (timing for timing in read_timings(folder) if timing.purpose == purpose)
    there = {(timing.task, timing.method, timing.row) for timing in timings}
    for prompt in wanted:
        for cell in cells:
            if (cell.task, cell.name, f"{prompt.id}#0") not in there:
                _journal(folder).add([_timed(evaluation, cell, prompt, purpose)])
            on_answer()


def read_timings(folder: EvalFolder) -> list[Timing]:
    """All timings of an evaluation."""
    return _journal(folder).entries()


def forget_timings(folder: EvalFolder, cell: Cell) -> None:
    """Drop the timings of a method on a task, which were those of other settings.

    Args:
        folder: output of the evaluation.
        cell: the method and the task.
    """
    timings = read_timings(folder)
    kept = [timing for timing in timings if (timing.task, timing.method) != (cell.task, cell.name)]
    if len(kept) < len(timings):
        _journal(folder).replace(kept)


def timings_of(
    timings: Iterable[Timing], task: str, method: str, purpose: TimingPurpose = "compare"
) -> dict[str, Usage]:
    """Usage of the timed answers of a method to a task, by the ids of their rows.

    Args:
        timings: of an evaluation.
        task: name of the task.
        method: name of the method.
        purpose: what they are for.
    """
    wanted = task, method, purpose
    those = [timing for timing in timings if (timing.task, timing.method, timing.purpose) == wanted]
    return {timing.row: timing.usage for timing in those if timing.usage is not None}


def _timed(evaluation: EvalPlan, cell: Cell, prompt: EvalPrompt, purpose: TimingPurpose) -> Timing:
    row = next(rows_of(evaluation, cell, [prompt]))
    (done,) = here(partial(guard_of, evaluation, cell), [row], 1, evaluation_key(evaluation))
    return Timing(purpose=purpose, task=cell.task, method=cell.name, row=row.id, usage=done.answer.usage)


def _journal(folder: EvalFolder) -> Journal[Timing]:
    return Journal(folder.timings, Timing)
