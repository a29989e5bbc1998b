"""Whole evaluations on fakes, and their reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stars_guard.evaluation import evaluate
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.reporting.record import EvaluationReport, report_of
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import plan, prompts_file

METHODS = {
    "plain": Plain(),
    "guarded": Guarded(),
    "bon-tokens": BestOfN(match="guarded"),
    "bon-seconds": BestOfN(match="guarded", by="seconds"),
}
PROMPTS = ["mild", "wild", "wild <b>too</b>", "mild as well"]


@pytest.fixture
def output(tmp_path: Path, fakes: None) -> Path:
    """Folder of an evaluation that is over."""
    task = Task(prompts=prompts_file(tmp_path, PROMPTS), judges=("harm",), timed=2)
    evaluate(plan(tmp_path, methods=METHODS, tasks={"asked": task}), tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def report(output: Path) -> EvaluationReport:
    """Its report."""
    return report_of(output, name="main", command="stars-guard eval main.yaml")


@pytest.fixture
def reported(tmp_path: Path, fakes: None) -> Callable[..., EvaluationReport]:
    """Reports of evaluations with other parts."""

    def make(
        prompts: list[str],
        *,
        judged_by: tuple[str, ...] = ("harm",),
        measures: tuple[str, ...] = (),
        **parts: object,
    ) -> EvaluationReport:
        changes = {"methods": METHODS, **parts}
        task = Task(prompts=prompts_file(tmp_path, prompts), judges=judged_by, measures=measures, timed=1)
        evaluate(plan(tmp_path, tasks={"asked": task}, **changes), tmp_path / "other")
        return report_of(tmp_path / "other", name="other", command="stars-guard eval other.yaml")

    return make
