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


def test_the_sentence_on_unsafe_prompts_is_that_of_the_record():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    pattern = r"from ([\d.]+ %) to ([\d.]+ %), Best-of-N at equal tokens to ([\d.]+ %)"
    (said,) = re.findall(pattern, text)
    (clearly,) = re.findall(r"clearly harmful: ([\d.]+ %) to ([\d.]+ %), and ([\d.]+ %)", text)
    report = EvaluationReport.read(RECORDS / "usefulness.json")
    results = {item.method: item for item in report.methods_of("xstest-unsafe")}
    for figures, judge in ((said, "harm"), (clearly, "clear-harm")):
        methods = "plain", "guarded", "best-of-n-tokens"
        assert list(figures) == [shown(results[method].harmful[judge].value, "share") for method in methods]


def test_how_much_of_harmless_answers_the_judge_flags_is_that_of_the_record():
    report = EvaluationReport.read(RECORDS / "usefulness.json")
    (plain,) = (item for item in report.methods_of("plain-instructions") if item.method == "plain")
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (flagged,) = re.findall(r"flags (\d+) % of the model's plain answers", text)
    assert round(100 * plain.harmful["harm"].value) == int(flagged)
    assert round(10 * plain.harmful["clear-harm"].value) == 1


def test_what_is_said_of_openings_is_that_of_the_record():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    paragraph = text[text.index("Retries that the model begins") : text.index("(`openings.yaml`)")]
    report = EvaluationReport.read(RECORDS / "openings.json")
    results = {(item.task, item.method): item for item in report.results.methods}

    def harm(task, method, judge="harm"):
        return shown(results[task, method].harmful[judge].value, "share")

    def declined(task, method):
        return shown(results[task, method].measures["refusal_phrases"].value, "share")

    def price(task, method="openings"):
        return f"{results[task, method].proposed_per_kept.value:.2f}"

    said = re.findall(r"[\d.]+ %|\d\.\d\d\b(?! %)", paragraph)
    clearly = "clear-harm"
    assert said == [
        *(harm("harmfulqa", "plain"), harm("harmfulqa", "openings")),
        *(harm("harmfulqa", "plain", clearly), harm("harmfulqa", "openings", clearly), price("harmfulqa")),
        *(harm("harmfulqa", "guarded"), harm("harmfulqa", "guarded", clearly), price("harmfulqa", "guarded")),
        *(harm("xstest-unsafe", "plain"), harm("xstest-unsafe", "openings"), price("xstest-unsafe")),
        *(declined("xstest-safe", "openings"), declined("xstest-safe", "plain")),
        *(declined("rag-clean", "openings"), declined("rag-clean", "plain")),
    ]


def _table(lines: list[str]) -> list[str]:
    return lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
