"""A sample of answers for people to label: shuffled, under random codes, without the names of methods."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stars_guard.batch.rows import read_rows
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.cells import read_answers, rows_by_prompt
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.labels import LabelKey, LabelledRow, answer_digest
from stars_guard.evaluation.judges.questions import conversation
from stars_guard.settings import accepted_names

_CODES = 16**6


class UnlabelledAnswer(NamedTuple):
    """What a person sees of an answer.

    Attributes:
        code: stands for it in the file of labels.
        prompt: the conversation.
        answer: everything that was shown.
    """

    code: str
    prompt: str
    answer: str


class LabelSample(NamedTuple):
    """Answers to be labelled, in the order in which they are shown, and what their codes stand for."""

    answers: list[UnlabelledAnswer]
    key: LabelKey


def draw_sample(folder: EvalFolder, task: str, prompts: int, seed: int) -> LabelSample:
    """Answers of every method to some prompts of a task; equal answers to a prompt are shown once.

    Only prompts that all methods answered are drawn: a method must not look better by those it missed.

    Args:
        folder: output of the evaluation.
        task: name of the task.
        prompts: how many, each with one answer a method, also where each is answered by several seeds or
            asked in several ways.
        seed: of prompts, order and codes.

    Raises:
        ConfigurationError: there is no such task, or it has fewer prompts.
    """
    answers = _answers(folder, task)
    answered = sorted(set.intersection(*(set(texts) for texts in answers.values())))
    # Answers to one prompt are alike, whatever their seed and however it is asked: one row of it is labelled.
    common = rows_by_prompt((row, row) for row in answered)
    if prompts > len(common):
        raise ConfigurationError(
            f"{prompts} prompts are wanted, but {len(common)} of {task!r} were answered by every method; "
            "take a smaller sample"
        )
    numbers = random.Random(seed)
    chosen = numbers.sample(sorted(common), prompts)
    rows = sorted(numbers.choice(common[prompt]) for prompt in chosen)
    shown = _texts_of_prompts(folder, task, next(iter(answers)))
    distinct = [answer for row in rows for answer in _distinct(row, shown[row], answers)]
    return _coded(task, seed, numbers, distinct)


class _Shown(NamedTuple):
    """An answer, who gave it, and what it answers."""

    row: str
    prompt: str
    answer: str
    methods: tuple[str, ...]


def _answers(folder: EvalFolder, task: str) -> dict[str, dict[str, str]]:
    """Texts by row, by method."""
    answered = folder.root / "answers"
    tasks = sorted(path.name for path in answered.glob("*/"))
    if task not in tasks:
        there = accepted_names(task, tasks)
        raise ConfigurationError(f"{folder.root} has no answers to the task {there}; run stars-guard eval")
    return {
        path.stem: {row.id: row.text for row in read_answers(path) if row.text is not None}
        for path in sorted(answered.joinpath(task).glob("*.jsonl"))
    }


def _texts_of_prompts(folder: EvalFolder, task: str, method: str) -> dict[str, str]:
    return {row.id: conversation(row.as_prompt) for row in read_rows(folder.rows(task, method))}


def _distinct(row: str, prompt: str, answers: Mapping[str, Mapping[str, str]]) -> list[_Shown]:
    methods: dict[str, list[str]] = defaultdict(list)
    for method, texts in answers.items():
        methods[texts[row]].append(method)
    return [_Shown(row, prompt, answer, tuple(names)) for answer, names in methods.items()]


def _coded(task: str, seed: int, numbers: random.Random, shown: Sequence[_Shown]) -> LabelSample:
    order = numbers.sample(shown, len(shown))
    codes = [f"{code:06x}" for code in numbers.sample(range(_CODES), len(order))]
    coded = list(zip(codes, order, strict=True))
    answers = {
        code: LabelledRow(row=each.row, methods=each.methods, digest=answer_digest(each.prompt, each.answer))
        for code, each in coded
    }
    return LabelSample(
        [UnlabelledAnswer(code, each.prompt, each.answer) for code, each in coded],
        LabelKey(task=task, seed=seed, answers=answers),
    )
