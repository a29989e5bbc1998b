"""The evaluations that come with the package: each is read, and asks for prompts that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

import stars_guard.evaluation
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.tasks.sources import task_prompts

CONFIGS = sorted((Path(stars_guard.evaluation.__file__).parent / "configs").glob("*.yaml"))
PLANS = [path for path in CONFIGS if path.stem in ("usefulness", "sentiment", "rag", "preferences", "smoke")]


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_is_read_and_its_prompts_are_there(path):
    plan = EvalPlan.of_file(path)
    for task in plan.tasks.values():
        assert task_prompts(task, plan.seed)
