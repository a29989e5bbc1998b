"""Measures of a whole cell: kept row by row, taken once, and part of the results."""

from __future__ import annotations

import json

import pytest

from stars_guard.batch.answers import RowError, RowResult
from stars_guard.evaluation import cells
from stars_guard.evaluation.cells import Cell
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.measuring import measure_cell
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.run import evaluate
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.testing import KeywordReward, ScriptedModel

CELL = Cell("task", "plain", Plain())
PROMPTS = {name: EvalPrompt(id=name, prompt="Why?") for name in "abc"}


def rows(*names):
    return [RowResult(id=f"{name}#0", seed=0, text=f"answer {name}", refused=False) for name in names]


class Counting:
    """Counts what it measures."""

    def __init__(self):
        self.made = 0
        self.texts = []

    def __call__(self):
        self.made += 1
        return self

    def measure(self, answers):
        self.texts += [answer.text for answer in answers]
        return [None if answer.text.endswith("b") else 1.0 for answer in answers]


def test_what_was_measured_is_not_measured_again(tmp_path):
    folder, first, second = EvalFolder(tmp_path), Counting(), Counting()
    items = measure_cell(folder, CELL, {"first": first}, PROMPTS, rows("a", "b"))
    assert [(item.id, item.value) for item in items] == [("a#0", 1.0), ("b#0", None)]
    again = measure_cell(folder, CELL, {"second": second, "first": first}, PROMPTS, rows("a", "b", "c"))
    assert first.texts == ["answer a", "answer b", "answer c"]
    assert second.texts == ["answer a", "answer b", "answer c"]
    assert [(item.measure, item.id) for item in again[2:4]] == [("second", "c#0"), ("first", "a#0")]
    measure_cell(folder, CELL, {"first": first}, PROMPTS, rows("a", "b", "c"))
    assert first.made == 2


def test_a_line_that_was_cut_off_is_measured_anew(tmp_path):
    folder, counting = EvalFolder(tmp_path), Counting()
    measure_cell(folder, CELL, {"first": counting}, PROMPTS, rows("a", "b"))
    path = folder.measurements("task", "plain")
    path.write_bytes(path.read_bytes()[:-10])
    measure_cell(folder, CELL, {"first": counting}, PROMPTS, rows("a", "b"))
    assert counting.texts == ["answer a", "answer b", "answer b"]
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a#0", "b#0"]


def test_a_row_without_an_answer_has_no_numbers(tmp_path):
    failed = RowResult(id="a#0", seed=0, error=RowError(type="GenerationError", message="no"))
    assert measure_cell(EvalFolder(tmp_path), CELL, {"first": Counting()}, PROMPTS, [failed]) == []


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(
        cells, "_model", lambda name: ScriptedModel([["the cat saw the cat and the cat ran"]])
    )
    monkeypatch.setattr(cells, "_reward", lambda name: KeywordReward({"dog": -1.0}))


def test_measures_are_in_the_results_with_intervals(scripted, tmp_path):
    task = {"prompts": "harmfulqa", "limit": 3, "measures": ["length", "distinct_2"]}
    plan = EvalPlan(methods={"plain": "plain"}, tasks={"harm": task})
    (result,) = evaluate(plan, tmp_path).methods
    assert result.measures["distinct_2"].value == pytest.approx(6 / 8)
    assert result.measures["distinct_2"].prompts == 3
    assert result.measures["length"].value > 0
    assert evaluate(plan, tmp_path).methods == [result]
