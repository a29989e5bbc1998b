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
    baseline: Mapping[str, RowResult] | None,
) -> list[Judgement]:
    """What a judge says of a cell's answers; those judged already are not judged again.

    Args:
        folder: output of the evaluation.
        cell: whose answers they are.
        judge_name: name of the judge in the evaluation.
        load: gives the judge, when there is something to judge.
        prompts: those of the task, by id.
        rows: answers; rows without one are not judged.
        baseline: answers of the method that a judge of pairs compares with, by the ids of rows; a row
            that has none there is not judged. None for judges of single answers.
    """
    journal = Journal(folder.judgements(cell.task, cell.name, judge_name), Judgement)
    said = {judgement.id: judgement for judgement in journal.entries()}
    others = {row.id: row.text for row in (baseline or {}).values() if row.text is not None}
    answered = [row for row in rows if row.text is not None and (baseline is None or row.id in others)]
    todo = [row for row in answered if row.id not in said]
    if todo:
        judge = load()
        for begin in range(0, len(todo), _BLOCK):
            judgements = _judged(judge, todo[begin : begin + _BLOCK], prompts, others)
            journal.add(judgements)
            said |= {judgement.id: judgement for judgement in judgements}
    return [said[row.id] for row in rows if row.id in said]


def _judged(
    judge: Judge,
    rows: Sequence[RowResult],
    prompts: Mapping[str, EvalPrompt],
    others: Mapping[str, str],
) -> list[Judgement]:
    answers = [
        JudgedAnswer(prompts[prompt_id(row.id)], row.text or "", others.get(row.id), row.id) for row in rows
    ]
    judgements = judge.judge(answers)
    return [
        judgement.model_copy(update={"id": row.id})
        for judgement, row in zip(judgements, rows, strict=True)
        if judgement is not None
    ]
