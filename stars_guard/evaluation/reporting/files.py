"""The files of a report, beside the results of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from stars_guard.evaluation.reporting.page import AnswersOf, html_page, no_answers
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.sections import task_tables
from stars_guard.evaluation.reporting.tables import as_csv
from stars_guard.evaluation.tables import as_markdown, markdown_text


class ReportFiles(NamedTuple):
    """Where a report was written.

    Attributes:
        page: everything, as one HTML page.
        record: everything, as JSON.
        markdown: the tables, in Markdown.
        csv: every figure on a row of its own.
    """

    page: Path
    record: Path
    markdown: Path
    csv: Path


def write_evaluation_report(
    report: EvaluationReport, folder: Path, answers: AnswersOf = no_answers
) -> ReportFiles:
    """Write everything that a report consists of.

    Args:
        report: the evaluation.
        folder: receives the files.
        answers: texts that the page shows, folded; none by default.

    Raises:
        MissingExtraError: jinja2, matplotlib or pyyaml is not installed.
    """
    names = ("report.html", "report.json", "report.md", "report.csv")
    files = ReportFiles(*(folder / name for name in names))
    tables = (
        f"## {markdown_text(task)}: {title}\n\n{as_markdown(table)}\n"
        for task in report.tasks
        for title, table in task_tables(report, task)
    )
    studies = (
        f"## {markdown_text(finding.task)}: {markdown_text(finding.title)}\n\n{as_markdown(finding.table)}\n"
        for finding in report.findings
    )
    texts = {files.page: html_page(report, answers), files.markdown: "".join((*tables, *studies))}
    texts[files.csv] = as_csv(report)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    report.write(files.record)
    return files
