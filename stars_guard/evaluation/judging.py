"""The judges' turn: every answer of a cell is judged once, and what was said is kept row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stars_guard.batch.answers import RowResult
from stars_guard.evaluation.cells import Cell, prompt_id
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judge, JudgedAnswer, Judgement
from stars_guard.evaluation.tasks.prompts import EvalPrompt

_BLOCK = 64
"""Answers that are judged before what was said is written down."""


def judge_cell(
    folder: EvalFolder,
    cell: Cell,
    judge_name: str,
    load: Callable[[], Judge],
    prompts: Mapping[str, EvalPrompt],
    rows: Sequence[RowResult],
    baseline: Mapping[str, RowResult],
) -> list[Judgement]:
    """What a judge says of a cell's answers; those judged already are not judged again.

    Args:
        folder: output of the evaluation.
        cell: whose answers they are.
        judge_name: name of the judge in the evaluation.
        load: gives the judge, when there is something to judge.
        prompts: those of the task, by id.
        rows: answers; rows without one are not judged.
        baseline: answers of the method that judges of pairs compare with, by the ids of rows.
    """
    journal = Journal(folder.judgements(cell.task, cell.name, judge_name), Judgement)
    said = {judgement.id: judgement for judgement in journal.entries()}
    todo = [row for row in rows if row.text is not None and row.id not in said]
    if todo:
        judge = load()
        for begin in range(0, len(todo), _BLOCK):
            judgements = _judged(judge, todo[begin : begin + _BLOCK], prompts, baseline)
            journal.add(judgements)
            said |= {judgement.id: judgement for judgement in judgements}
    return [said[row.id] for row in rows if row.id in said]


def _judged(
    judge: Judge,
    rows: Sequence[RowResult],
    prompts: Mapping[str, EvalPrompt],
    baseline: Mapping[str, RowResult],
) -> list[Judgement]:
    answers = [
        JudgedAnswer(
            prompts[prompt_id(row.id)], row.text or "", baseline[row.id].text if row.id in baseline else None
        )
        for row in rows
    ]
    judgements = judge.judge(answers)
    return [
        judgement.model_copy(update={"id": row.id}) for judgement, row in zip(judgements, rows, strict=True)
    ]
