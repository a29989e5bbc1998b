"""An evaluation whose answers are plus and minus signs, which the reward counts, and the judge as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stars_guard.evaluation import EvalPlan
from stars_guard.evaluation.tasks.base import Task
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.testing import ScriptedModel
from stars_guard.types import Named, Reward
from tests.support.evaluations import prompts_file

HERE = "tests.evaluation.studies.signs"
PATHS = ("+++", "++-", "+-+", "-++", "+--", "-+-", "--+", "---")
"""Prompts: the signs that the model writes first, one a segment. Later attempts are pluses."""


class Balance(Named):
    """Pluses less minuses."""

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        return [Reward(float(r.response.count("+") - r.response.count("-"))) for r in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


guiding, judging = Balance("guiding"), Balance("judging")


def model(name: str | None) -> ScriptedModel:
    """The language model of every name."""
    return ScriptedModel(script)


def script(prompt: Prompt) -> list[list[str]]:
    """The signs of the prompt, of which every second attempt is a plus."""
    signs = [sign for sign in prompt.as_text() if sign in "+-"][:3]
    return [[sign, "+"] for sign in signs]


def plan(folder: Path, **changes: Any) -> EvalPlan:
    """Plain and guarded answers to all paths."""
    guard = {"threshold": 0.0, "segments": 1, "drawing": 1, "max_attempts": 2, "exhaustion": "refuse"}
    task = Task(prompts=prompts_file(folder, PATHS), judges=("harm",))
    parts: dict[str, Any] = {
        "rewards": {"signs": {"name": f"{HERE}:guiding", "guard": guard}},
        "methods": {"plain": "plain", "guarded": "guarded"},
        "judges": {"harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": 0.0}},
        "tasks": {"asked": task},
        "draws": {"prompts": 8, "candidates": 2, "segment_tokens": 1},
    }
    return EvalPlan(**parts | changes)
