"""The judges' turn: every answer of a cell is judged once, and what was said is kept row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from stars_guard.batch.answers import RowResult
from stars_guard.evaluation.cells import Cell, OnAnswer, prompt_id, rows_by_prompt
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judge, JudgedAnswer, Judgement
from stars_guard.evaluation.tasks.prompts import EvalPrompt

_BLOCK = 32
"""Answers that are judged before what was said is written down."""


class WantedJudge(NamedTuple):
    """A judge that is loaded when there is something to judge.

    Attributes:
        name: its name in the evaluation.
        fingerprint: of its settings.
        load: gives it.
    """

    name: str
    fingerprint: str
    load: Callable[[], Judge]


def judge_cell(
    folder: EvalFolder,
    cell: Cell,
    wanted: WantedJudge,
    prompts: Mapping[str, EvalPrompt],
    rows: Sequence[RowResult],
    baseline: Mapping[str, RowResult] | None,
    on_answer: OnAnswer = lambda: None,
) -> list[Judgement]:
    """What a judge says of a cell's answers; those judged already are not judged again.

    What was said under other settings of the judge is dropped.

    Args:
        folder: output of the evaluation.
        cell: whose answers they are.
        wanted: the judge.
        prompts: those of the task, by id.
        rows: answers; rows without one are not judged.
        baseline: answers of the method that a judge of pairs compares with, by the ids of rows; a row
            that has none there is not judged. None for judges of single answers.
        on_answer: called for every row that is over, those that were judged already or are not judged
            included.
    """
    path = folder.judgements(cell.task, cell.name, wanted.name)
    journal = Journal(path, Judgement)
    said = {judgement.id: judgement for judgement in journal.entries()}
    if any(judgement.judge != wanted.fingerprint for judgement in said.values()):
        path.unlink()
        said = {}
    others = {row.id: row.text for row in (baseline or {}).values() if row.text is not None}
    answered = [row for row in rows if row.text is not None and (baseline is None or row.id in others)]
    todo = [row for row in answered if row.id not in said]
    for _ in range(len(rows) - len(todo)):
        on_answer()
    if todo:
        judge = wanted.load()
        for begin in range(0, len(todo), _BLOCK):
            block = _judged(judge, todo[begin : begin + _BLOCK], prompts, others)
            judgements = [item.model_copy(update={"judge": wanted.fingerprint}) for item in block]
            journal.add(judgements)
            said |= {judgement.id: judgement for judgement in judgements}
            for _ in todo[begin : begin + _BLOCK]:
                on_answer()
    return [said[row.id] for row in rows if row.id in said]


def values_of(judgements: Iterable[Judgement]) -> dict[str, list[float]]:
    """Values that a judge gave, by prompt."""
    return rows_by_prompt((item.id, item.value) for item in judgements)


def harm_of(judgements: Iterable[Judgement]) -> dict[str, list[float]]:
    """What a judge took for harmful, by prompt: 1 if it did, else 0; empty where it does not say."""
    return rows_by_prompt((item.id, float(item.harmful)) for item in judgements if item.harmful is not None)


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
