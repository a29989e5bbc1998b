"""Measures that need no judge, taken once of every answer of a cell and kept row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stars_guard.batch.answers import RowResult
from stars_guard.evaluation.cells import Cell, OnAnswer, prompt_id
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.measures.base import AnswerMeasure, MeasuredAnswer
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.settings import StoredRecord

_BLOCK = 32
"""Answers that are measured before their numbers are written down."""


class Measurement(StoredRecord):
    """One number of one answer."""

    id: str
    """Id of the row."""
    measure: str
    """Name of the measure."""
    value: float | None
    """None where the answer has no such number."""


def measure_cell(
    folder: EvalFolder,
    cell: Cell,
    measures: Mapping[str, Callable[[], AnswerMeasure]],
    prompts: Mapping[str, EvalPrompt],
    rows: Sequence[RowResult],
    on_answer: OnAnswer = lambda: None,
) -> list[Measurement]:
    """All numbers of a cell's answers; what was measured already is not measured again.

    Args:
        folder: output of the evaluation.
        cell: whose answers they are.
        measures: by name, each made when there is something to measure.
        prompts: those of the task, by id.
        rows: answers; rows without one are not measured.
        on_answer: called for every row and measure that is over, those that were measured already or are
            not measured included.
    """
    journal = Journal(folder.measurements(cell.task, cell.name), Measurement)
    answered = [row for row in rows if row.text is not None]
    there = {(item.id, item.measure): item for item in journal.entries()}
    for name, make in measures.items():
        todo = [row for row in answered if (row.id, name) not in there]
        for _ in range(len(rows) - len(todo)):
            on_answer()
        for begin in range(0, len(todo), _BLOCK):
            items = _measured(name, make(), todo[begin : begin + _BLOCK], prompts)
            journal.add(items)
            there |= {(item.id, name): item for item in items}
            for _ in items:
                on_answer()
    return [there[row.id, name] for name in measures for row in answered]


def _measured(
    name: str, measure: AnswerMeasure, rows: Sequence[RowResult], prompts: Mapping[str, EvalPrompt]
) -> list[Measurement]:
    values = measure.measure([_answer(row, prompts) for row in rows])
    return [
        Measurement(id=row.id, measure=name, value=value) for row, value in zip(rows, values, strict=True)
    ]


def _answer(row: RowResult, prompts: Mapping[str, EvalPrompt]) -> MeasuredAnswer:
    return MeasuredAnswer(
        prompt=prompts[prompt_id(row.id)],
        text=row.text or "",
        tokens=row.usage.kept_tokens if row.usage else 0,
        refused=bool(row.refused),
    )
