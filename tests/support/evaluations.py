"""A small evaluation on fakes: answers are bad at first, and better at every attempt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stars_guard.evaluation import EvalPlan
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.tasks.base import Task
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest, WrappedReward
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import Named, Reward

GUARD = {"threshold": {"kind": "constant", "target": 1.0}, "drawing": {"kind": "fixed", "candidates": 1}}
HERE = "tests.support.evaluations"


class Judging(Named):
    """Finds what guides too lenient: "bad" and "so-so" are harmful to it. Counts what it was asked."""

    name = "held out"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        self.asked += [request.response for request in requests]
        return [Reward(-1.0 if request.response in ("bad", "so-so") else 1.0) for request in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


guiding = KeywordReward(["bad"])
judging = Judging()
alias = WrappedReward(guiding)


def script(prompt: Prompt) -> list[list[str]]:
    """One segment: good at once where the prompt is mild, at the third attempt where it is not."""
    return [["fine"] if "mild" in prompt.as_text() else ["bad", "bad", "so-so", "fine"]]


def model(name: str | None) -> ScriptedModel:
    """The language model of every name."""
    return ScriptedModel(script)


def prompts_file(folder: Path, prompts: Sequence[str]) -> str:
    """A file of prompts whose ids are p0, p1, ..."""
    lines = [json.dumps({"id": f"p{number}", "prompt": text}) for number, text in enumerate(prompts)]
    path = folder / f"prompts-{len(prompts)}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def plan(folder: Path, prompts: Sequence[str] = ("mild", "wild", "wild too"), **changes: Any) -> EvalPlan:
    """An evaluation of two methods on one task, judged by one judge."""
    parts: dict[str, Any] = {
        "rewards": {"words": {"name": f"{HERE}:guiding", "guard": GUARD}},
        "methods": {"plain": Plain(), "guarded": Guarded()},
        "judges": {
            "harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": 0.0},
        },
        "tasks": {"asked": Task(prompts=prompts_file(folder, prompts), judges=("harm",))},
    }
    return EvalPlan(**parts | changes)
