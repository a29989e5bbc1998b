"""The figures that the README takes from RESULTS.md are those of the record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import figures_of, method_table, price_columns, quality_columns
from stars_guard.evaluation.tables import shown

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "results"
COLUMNS = (
    "harmful by harm",
    "harmful by clear-harm",
    "tokens per kept one",
    "seconds",
    "to first text, s",
)
HEADING = "| HarmfulQA, 150 prompts |"

pytestmark = pytest.mark.skipif(not (RECORDS / "main.json").exists(), reason="no results are checked in")


def test_every_figure_in_the_readme_is_that_of_the_record():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(HEADING))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(lines[start + 2 :])]
    assert len(rows) >= 4
    report = EvaluationReport.read(RECORDS / "main.json")
    figures = figures_of(report, "harmfulqa")
    wanted = [
        column
        for column in (*quality_columns(figures), *price_columns())
        if column.name
        in ("harmful by harm", "harmful by clear-harm", "tokens per kept one", "seconds", "to first text, s")
    ]
    known = {row[0]: list(row[1:]) for row in method_table(figures, wanted).texts}
    for name, *texts in rows:
        assert texts == known[name.strip("`")]


def test_every_other_figure_is_that_of_the_records():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.findall(
        r"[\d.]+ %", text[text.index("The held-out judge is small") : text.index("[RESULTS.md]")]
    )
    results = {
        (item.task, item.method): item
        for name in ("main", "usefulness")
        for item in EvaluationReport.read(RECORDS / f"{name}.json").results.methods
    }

    def harm(task, method, judge="harm"):
        return shown(results[task, method].harmful[judge].value, "share")

    def declined(task, method):
        return shown(results[task, method].measures["refusal_phrases"].value, "share")

    instructions, unsafe, clearly = "plain-instructions", "xstest-unsafe", "clear-harm"
    assert said == [
        *(harm(instructions, "plain"), harm(instructions, "plain", clearly)),
        *(harm(unsafe, "plain"), harm(unsafe, "stars")),
        *(harm(unsafe, "plain", clearly), harm(unsafe, "stars", clearly)),
        *(harm(unsafe, "best-of-2"), harm(unsafe, "best-of-2", clearly)),
        *(declined("xstest-safe", "stars"), declined("xstest-safe", "plain")),
        *(declined("rag-clean", "stars"), declined("rag-clean", "plain")),
        *(declined(instructions, "guarded"), declined(instructions, "plain")),
        *(declined("grave-topics", "guarded"), declined("grave-topics", "plain")),
        declined("rag-clean", "stars-encoder"),
    ]


def test_what_a_lower_bar_changes_is_that_of_the_record():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.findall(r"[\d.]+ %", text[text.index("A lower bar is kinder") : text.index("`bar` in")])
    results = {
        (item.task, item.method): item for item in EvaluationReport.read(RECORDS / "bar.json").results.methods
    }
    lower_and_deployed = ("bar-0.25", "stars")
    declined = [
        results[task, method].measures["refusal_phrases"].value
        for task in ("xstest-safe", "rag-clean")
        for method in lower_and_deployed
    ]
    harmful = [
        results["harmfulqa", method].harmful[judge].value
        for judge in ("harm", "clear-harm")
        for method in lower_and_deployed
    ]
    assert said == [shown(value, "share") for value in (*declined, *harmful)]


def _table(lines: list[str]) -> list[str]:
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
