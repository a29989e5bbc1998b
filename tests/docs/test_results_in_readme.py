"""The figures that the README takes from RESULTS.md are those of the record."""

from __future__ import annotations

from pathlib import Path

import pytest

from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import figures_of, method_table, price_columns, quality_columns

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "results" / "main.json"
HEADING = "| HarmfulQA, 150 prompts |"

pytestmark = pytest.mark.skipif(not RECORD.exists(), reason="no results are checked in")


def test_every_figure_in_the_readme_is_that_of_the_record():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(HEADING))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(lines[start + 2 :])]
    assert len(rows) >= 4
    report = EvaluationReport.read(RECORD)
    figures = figures_of(report, "harmfulqa")
    wanted = [
        column
        for column in (*quality_columns(figures), *price_columns())
        if column.name in ("harmful by harm", "tokens per kept one", "seconds", "to first text, s")
    ]
    known = {row[0]: list(row[1:]) for row in method_table(figures, wanted).texts}
    for name, *shown in rows:
        assert shown == known[name.strip("`")]


def _table(lines: list[str]) -> list[str]:
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
