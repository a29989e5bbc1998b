"""Where prompts come from: built-in sets, JSONL files, folders of ``datasets``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.settings import parsed_json, read_bytes

SETS = Path(__file__).parent / "sets"
"""Built-in sets, one JSONL file each."""


def task_prompts(task: Task, seed: int) -> list[EvalPrompt]:
    """The prompts of a task, in an order that the seed decides, so that a limit draws a sample.

    Args:
        task: says where they come from, and how many are wanted.
        seed: of the evaluation.

    Raises:
        ConfigurationError: there are none, or one is malformed or stands twice.
    """
    path = SETS / f"{task.prompts}.jsonl"
    prompts = list(_of_file(path if path.exists() else Path(task.prompts)))
    random.Random(seed).shuffle(prompts)
    chosen = prompts[: task.limit]
    return chosen if task.attack is None else task.attack.applied(chosen)


def _of_file(path: Path) -> Iterator[EvalPrompt]:
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        values: Any = parsed_json(line)
        if not isinstance(values, dict):
            raise ConfigurationError(f"{path}:{number}: a prompt is a JSON object")
        yield EvalPrompt.found_at(f"{path}:{number}", {"id": str(number), **values})
