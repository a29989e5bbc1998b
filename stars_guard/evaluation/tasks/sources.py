"""Where prompts come from: built-in sets, files, folders of ``datasets``, questions over passages."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.fields import SourceFields, SourceRow
from stars_guard.evaluation.tasks.files import file_rows
from stars_guard.evaluation.tasks.folders import folder_rows
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.evaluation.tasks.rag import RAG_FIELDS, RagOptions, rag_rows
from stars_guard.settings import accepted_names

SETS = Path(__file__).parent / "sets"
"""Built-in sets, one JSONL file each; its README says where they are from."""
RAG = "rag"
"""Name of the source that retrieves passages for questions."""


def built_in_sets() -> list[str]:
    """Names of the built-in sets."""
    return sorted(path.stem for path in SETS.glob("*.jsonl"))


def task_prompts(task: Task, seed: int) -> list[EvalPrompt]:
    """The prompts of a task, in an order that the seed decides, so that a limit draws a sample.

    Args:
        task: says where they come from, and how many are wanted.
        seed: of the evaluation.

    Raises:
        ConfigurationError: there are none, or one is malformed or stands twice.
    """
    prompts = list(_each_once(_read(task)))
    if not prompts:
        raise ConfigurationError(f"there are no prompts in {task.prompts}")
    random.Random(seed).shuffle(prompts)
    chosen = prompts[: task.limit]
    return chosen if task.attack is None else task.attack.applied(chosen)


def _read(task: Task) -> Iterator[tuple[str, EvalPrompt]]:
    """Each prompt, and where it stands."""
    if task.prompts == RAG:
        rows: Iterable[SourceRow] = rag_rows(RagOptions.found_at("options of rag", task.options))
        fields = RAG_FIELDS
    else:
        fields = SourceFields.found_at(f"options of {task.prompts}", task.options)
        rows = _rows(task.prompts, fields.split)
    for number, row in enumerate(rows, start=1):
        yield row.place, fields.read(row, number)


def _rows(source: str, split: str | None) -> list[SourceRow]:
    built_in = source in built_in_sets()
    path = SETS / f"{source}.jsonl" if built_in else Path(source).expanduser()
    if path.is_dir():
        return folder_rows(path, split)
    if split is not None:
        raise ConfigurationError(f"{source} is no folder of datasets, and has no split {split!r}")
    if not path.exists():
        known = accepted_names(source, [RAG, *built_in_sets()])
        raise ConfigurationError(f"there is no such file, folder or built-in set of prompts: {known}")
    return file_rows(path)


def _each_once(prompts: Iterable[tuple[str, EvalPrompt]]) -> Iterator[EvalPrompt]:
    """The prompts, none of which may stand twice: an interval over prompts counts each as one."""
    ids: dict[str, str] = {}
    contents: dict[str, str] = {}
    for place, prompt in prompts:
        content = prompt.model_dump_json(include={"prompt", "messages"})
        if prompt.id in ids:
            raise ConfigurationError(f"{place}: its id stands at {ids[prompt.id]}, too; make ids unique")
        if content in contents:
            raise ConfigurationError(
                f"{place}: the same prompt stands at {contents[content]}, too; keep one of them"
            )
        ids[prompt.id] = contents[content] = place
        yield prompt
