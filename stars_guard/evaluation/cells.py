"""Cells of an evaluation: one method on one task, answered as a batch is, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pydantic import ValidationError

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.batch.answers import Done, RowResult
from stars_guard.batch.manifest import Manifest
from stars_guard.batch.ray import answers_on_ray
from stars_guard.batch.rows import Row, read_rows
from stars_guard.batch.runner import answers_here
from stars_guard.batch.storage import Output
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.config import BASELINE, EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.methods import Method
from stars_guard.evaluation.statistics.ratios import values_by_prompt
from stars_guard.evaluation.tasks.attacks import variant_of
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.parts import load_model, load_reward
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.settings import readable, sized

_T = TypeVar("_T")
GuardLoader: TypeAlias = Callable[[], StarsGuardedLLM]
AnswerRows: TypeAlias = Callable[[GuardLoader, Iterable[Row], int, AcceptanceKey], Iterator[Done]]
"""Answers rows somewhere, so many at the same time: in this process, or on the machines of a cluster."""
OnAnswer: TypeAlias = Callable[[], None]
"""Called for every row that is over."""
_REMEDY = "give another --output, or remove this file to have these rows answered anew"


class Cell(NamedTuple):
    """One method on one task.

    Attributes:
        task: name of the task.
        name: name of the method.
        method: the method, with nothing left open.
    """

    task: str
    name: str
    method: Method


def here(load: GuardLoader, rows: Iterable[Row], in_flight: int, key: AcceptanceKey) -> Iterator[Done]:
    """Answer rows in this process.

    Args:
        load: gives the guard.
        rows: what to answer.
        in_flight: most rows at the same time.
        key: what acceptance draws are hashed with.
    """
    return answers_here(load(), rows, in_flight, key)


def on_cluster(
    address: str | None,
    workers: int,
    load: GuardLoader,
    rows: Iterable[Row],
    in_flight: int,
    key: AcceptanceKey,
) -> Iterator[Done]:
    """Answer rows on a Ray cluster.

    Args:
        address: of the cluster; None starts one on this machine.
        workers: each with models of its own.
        load: gives the guard, in a worker.
        rows: what to answer.
        in_flight: most rows of a worker at the same time.
        key: what acceptance draws are hashed with.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    return answers_on_ray(
        load, rows, address=address, concurrency=workers, in_flight=in_flight, acceptance_key=key
    )


def evaluation_key(evaluation: EvalPlan) -> AcceptanceKey:
    """The key of all acceptance draws: known, so that whoever repeats an evaluation gets the same answers."""
    return AcceptanceKey(f"stars-guard evaluation {evaluation.seed}")


def guard_of(evaluation: EvalPlan, cell: Cell) -> StarsGuardedLLM:
    """The guard that answers a cell; models are loaded once in a process.

    Raises:
        ConfigurationError: the settings of the method do not suit its models.
    """
    config, sampling = settings_of(evaluation, cell)
    model = _model(evaluation.proposing(cell.method))
    return StarsGuardedLLM(model, scorer_of(evaluation, cell.task, cell.method), config, sampling=sampling)


def scorer_of(evaluation: EvalPlan, task: str, method: Method) -> RewardModel:
    """What judges the candidates of a method on a task; models are loaded once in a process."""
    reward = _reward(evaluation.guiding(task, method).name)
    return method.scorer(_model(evaluation.proposing(method)), reward)


def base_model(evaluation: EvalPlan) -> LanguageModel:
    """The language model that answers without a guard, loaded once in a process."""
    return _model(evaluation.proposing(evaluation.methods[BASELINE]))


def settings_of(evaluation: EvalPlan, cell: Cell) -> tuple[GuardConfig, SamplingParams]:
    """How a cell is guarded, and how it proposes."""
    return evaluation.settings(cell.task, cell.method)


def answer_cell(
    evaluation: EvalPlan,
    folder: EvalFolder,
    cell: Cell,
    prompts: Iterable[EvalPrompt],
    *,
    answer: AnswerRows = here,
    on_answer: OnAnswer = lambda: None,
) -> list[RowResult]:
    """All answers of a cell; those that are there already are not drawn again.

    Args:
        evaluation: the evaluation.
        folder: its output.
        cell: what is answered, and how.
        prompts: those of the task.
        answer: answers rows.
        on_answer: called for every row that is over, those that were there included.

    Raises:
        ConfigurationError: what is there was drawn with other settings.
    """
    rows = _written(folder.rows(cell.task, cell.name), rows_of(evaluation, cell, prompts))
    places = folder.answers(cell.task, cell.name), folder.traces(cell.task, cell.name)
    key = evaluation_key(evaluation)
    with Output(*places, _manifest(evaluation, cell, rows, key), remedy=_REMEDY) as output:
        for _ in output.ids:
            on_answer()
        todo = [row for row in read_rows(rows) if row.id not in output.ids]
        if todo:
            for done in answer(partial(guard_of, evaluation, cell), todo, evaluation.in_flight, key):
                output.write(done)
                on_answer()
    return read_answers(places[0])


def rows_of(evaluation: EvalPlan, cell: Cell, prompts: Iterable[EvalPrompt]) -> Iterator[Row]:
    """The rows of a cell: every prompt, as often as the task wants answers to it."""
    kept = list(prompts)[: cell.method.max_prompts]
    for number in range(evaluation.tasks[cell.task].seeds):
        for prompt in kept:
            yield Row(id=row_id(prompt.id, number), prompt=prompt.prompt, messages=prompt.messages)


def row_id(prompt_id: str, number: int) -> str:
    """The id of the answer with that number to a prompt. Methods share it, and so the seed of the answer."""
    return f"{prompt_id}#{number}"


def prompt_id(row: str) -> str:
    """The id of the prompt of a row."""
    return row.rpartition("#")[0]


def original_id(row: str) -> str:
    """The id of the prompt of a row, the same for all ways in which an attack asks it.

    Answers to one question are alike however it is asked, so that statistics take them together.
    """
    return variant_of(prompt_id(row))[0]


def rows_by_prompt(values: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    """Values of rows, by the ids of their prompts, as :func:`original_id` gives them.

    Args:
        values: ids of rows, each with its value.
    """
    return values_by_prompt((original_id(row), value) for row, value in values)


def read_answers(path: Path) -> list[RowResult]:
    """The answers in a file, by the ids of their rows; one that was cut off while it was written is none.

    Raises:
        ConfigurationError: a line is no answer.
    """
    with path.open("rb") as lines:
        whole = [line for line in lines if line.endswith(b"\n")]
    try:
        answers = [RowResult.model_validate_json(line) for line in whole]
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {readable(error, 'no output of a batch', sized)}") from error
    return sorted(answers, key=lambda answer: answer.id)


def _written(path: Path, rows: Iterable[Row]) -> Path:
    lines = (row.model_dump_json(exclude_none=True, exclude_defaults=True) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


def _manifest(evaluation: EvalPlan, cell: Cell, rows: Path, key: AcceptanceKey) -> Manifest:
    config, sampling = settings_of(evaluation, cell)
    guiding = evaluation.guiding(cell.task, cell.method)
    models: dict[str, Any] = {
        "model": evaluation.proposing(cell.method),
        "reward": guiding.name,
        "method": cell.method.model_dump(mode="json"),
    }
    return Manifest.of(rows, models, config, sampling, Budget(), key)


@lru_cache
def _model(name: str | None) -> LanguageModel:
    return load_model(name)


@lru_cache
def _reward(name: str | None) -> RewardModel:
    return load_reward(name)
