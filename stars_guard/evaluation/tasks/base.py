"""A task: prompts, how they are answered, and what is measured of the answers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from stars_guard.evaluation.tasks.attacks import AttackSection
from stars_guard.settings import Settings


class Task(Settings):
    """Prompts, and what is measured of their answers."""

    prompts: str
    """Where they come from, as :func:`stars_guard.evaluation.tasks.sources.task_prompts` takes it: the name
    of a built-in set, a JSONL file, or a folder of ``datasets``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the source, such as the field that holds the text."""
    attack: AttackSection | None = None
    """What an adversary makes of each prompt, or the name of it; None: they are asked as they are."""
    limit: int | None = Field(default=None, ge=1)
    """Most prompts, drawn by the evaluation's seed; None: all."""
    seeds: int = Field(default=1, ge=1)
    """Answers to each prompt, each with a seed of its own."""
    timed: int = Field(default=0, ge=0)
    """Prompts that are answered once more by every method, one answer at a time, for its wall time."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer, in tokens; None: that of the evaluation."""
    methods: tuple[str, ...] = ()
    """Names of the methods that answer; none given: all."""
    reward: str = ""
    """Name of the reward that guides here, where a method names none; empty: the first."""
    judges: tuple[str, ...] = ()
    """Names of the judges that look at the answers."""
    measures: tuple[str, ...] = ()
    """Names of the measures that need no judge: see :mod:`stars_guard.evaluation.measures.table`."""
