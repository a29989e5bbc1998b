"""What the folder of an evaluation says of a task, for reports and for analyses alike."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.answered import AnsweredTask
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import plan, prompts_file


@pytest.fixture
def answered(tmp_path, fakes):
    """Two prompts, of which one is timed, answered twice each."""
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild"]), judges=("harm",), seeds=2, timed=1)
    results = evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")
    return AnsweredTask.of(EvalFolder(tmp_path / "out"), results, "asked")


def test_a_task_has_its_methods_and_judges_in_order(answered):
    assert (answered.name, answered.judges, list(answered.cells)) == (
        "asked",
        ("harm",),
        ["plain", "guarded"],
    )


def test_answers_stand_with_their_traces_timings_and_judgements(answered):
    cell = answered.cell("guarded")
    assert [row.id for row in cell.rows] == ["p0#0", "p0#1", "p1#0", "p1#1"]
    assert [(item.prompt, item.trace.run_id) for item in cell.traced] == [
        (row.id[:2], row.run_id) for row in cell.rows
    ]
    assert {prompt: len(usages) for prompt, usages in cell.timed.items()} == {"p0": 1}
    assert cell.values("harm") == {"p0": [1.0, 1.0], "p1": [-1.0, -1.0]}
    assert cell.harm("harm") == {"p0": [0.0, 0.0], "p1": [1.0, 1.0]}
    assert cell.means("harm") == {"p0": 1.0, "p1": -1.0}


def test_what_ended_with_an_error_is_a_row_and_no_answer(answered, monkeypatch):
    cell = answered.cell("guarded")
    rows = [row.model_copy(update={"error": {"type": "X"}}) if row.id == "p0#0" else row for row in cell.rows]
    monkeypatch.setitem(cell.__dict__, "rows", rows)
    assert [item.row.id for item in cell.traced] == ["p0#1", "p1#0", "p1#1"]


def test_a_method_that_did_not_answer_is_named(answered):
    with pytest.raises(ConfigurationError, match="'idle' did not answer 'asked'"):
        answered.cell("idle")
