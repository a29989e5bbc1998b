"""The page of results that a repository shows: made from the records of evaluations, never by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from stars_guard.calibration.plots import drawn
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.reporting.claims import claims_of, losses_of, summary_of
from stars_guard.evaluation.reporting.conditions import conditions_of
from stars_guard.evaluation.reporting.plots import ReportPlot, task_plots
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.sections import task_tables
from stars_guard.evaluation.reporting.study_plots import study_plots
from stars_guard.evaluation.reporting.tables import as_csv
from stars_guard.evaluation.studies.records import StudyFinding
from stars_guard.evaluation.tables import as_markdown, markdown_text

DATA = Path("docs") / "results"
"""Where records, tables and plots lie, seen from the folder of the page."""
HEADER = """\
<!-- Written by `make results` from the records in docs/results; do not edit. -->
# Results

Every figure has its 95 % interval in brackets, from drawing prompts anew, and every section the command that
makes it. Judges guided no answer. Refused answers count as answers; refused and repaired ones are counted
apart. The text below is computed from paired differences: *better* and *worse* mean that the interval of the
difference does not hold 0, and that a sign-flip test says p < 0.05, which no five prompts can.
Judges err: the share of plain answers to safe prompts (xstest-safe) that one calls harmful shows how often,
so look at differences rather than at shares. What columns mean stands under each table of all methods.
"""


def publish(report: EvaluationReport, results_page: Path) -> None:
    """Put the record of an evaluation beside the others, and write the page of all of them anew.

    Args:
        report: the evaluation.
        results_page: the page, such as ``RESULTS.md``.

    Raises:
        ConfigurationError: the page is a folder, a file in docs/results beside it is no record, or
            that folder cannot be made.
        MissingExtraError: matplotlib is not installed.
    """
    check_publishable(results_page, report.name)
    report.write(_record_file(results_page, report.name))
    write_results_page(results_page)


def check_publishable(results_page: Path, name: str) -> None:
    """Find out, before hours of work, whether an evaluation can be put on a page of results.

    Args:
        results_page: the page; the folder of its records is made.
        name: of the evaluation.

    Raises:
        ConfigurationError: the page is a folder, a file in docs/results beside it is no record, or
            that folder cannot be made.
    """
    if results_page.is_dir():
        raise ConfigurationError(f"{results_page} is a folder; name a page in it, such as RESULTS.md")
    data = results_page.parent / DATA
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{data} cannot be made: {error.strerror}") from error
    for path in record_files(results_page):
        if path != _record_file(results_page, name):
            EvaluationReport.read(path)


def _record_file(results_page: Path, name: str) -> Path:
    return results_page.parent / DATA / f"{file_name(name)}.json"


def write_results_page(results_page: Path) -> None:
    """Write the page, its plots and its tables from the records that are there.

    Args:
        results_page: the page; records are in ``docs/results`` beside it.

    Raises:
        ConfigurationError: one of the files there is no record.
        MissingExtraError: matplotlib is not installed.
    """
    reports = [EvaluationReport.read(path) for path in record_files(results_page)]
    data = results_page.parent / DATA
    for path in (*data.glob("*.svg"), *data.glob("*.csv")):
        path.unlink()
    for report in reports:
        _write(data / f"{file_name(report.name)}.csv", as_csv(report))
        for task in report.tasks:
            for plot in task_plots(report, task):
                _write_plot(data / plot_file(report, task, plot), plot)
        for finding in report.findings:
            for plot in study_plots(finding):
                _write_plot(data / plot_file(report, finding.task, plot), plot)
    _write(results_page, results_text(reports))


def record_files(results_page: Path) -> list[Path]:
    """Records of evaluations, the main one first, the others by name.

    Args:
        results_page: the page that they are for.
    """
    return sorted(
        (results_page.parent / DATA).glob("*.json"), key=lambda path: (path.stem != "main", path.stem)
    )


def results_text(reports: Sequence[EvaluationReport]) -> str:
    """The page as Markdown.

    Args:
        reports: in the order in which they are shown.
    """
    return HEADER + "".join("".join(_of_report(report)) for report in reports)


def plot_file(report: EvaluationReport, task: str, plot: ReportPlot) -> str:
    """Name of the file that holds a plot.

    Args:
        report: the evaluation.
        task: that the plot is about.
        plot: the plot.
    """
    return f"{file_name(f'{report.name}-{task}-{plot.name}')}.svg"


def file_name(name: str) -> str:
    """A name with nothing in it that a file or a link cannot have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".")


def _of_report(report: EvaluationReport) -> Iterator[str]:
    subjects = markdown_text(", ".join(report.subjects))
    yield f"\n## {markdown_text(report.name)}\n\n"
    yield f"About **{subjects}**; stars_guard {report.results.stars_guard}.\n\n"
    yield from (f"- {markdown_text(condition)}\n" for condition in conditions_of(report))
    yield f"\n```bash\n{report.command}\n```\n"
    yield "\n### In short\n\n"
    yield from (
        f"- {markdown_text(f'{task}: {summary_of(report, task, subject)}')}\n"
        for task in report.tasks
        for subject in report.subjects_on(task)
    )
    yield f"\n### Where the guard loses, and why: {markdown_text(report.name)}\n\n"
    yield from _losses(report)
    for task in report.tasks:
        yield from _of_task(report, task)
    for finding in report.findings:
        yield from _of_study(report, finding)


def _of_study(report: EvaluationReport, finding: StudyFinding) -> Iterator[str]:
    yield f"\n### {markdown_text(f'{report.name}: {finding.name} on {finding.task}')}\n\n"
    yield f"{markdown_text(finding.title)}\n\n{as_markdown(finding.table)}"
    for plot in study_plots(finding):
        yield _shown_plot(report, finding.task, plot)


def _losses(report: EvaluationReport) -> Iterator[str]:
    lost = [
        f"- {markdown_text(f'{task}: {sentence}')}\n"
        for task in report.tasks
        for subject in report.subjects_on(task)
        for sentence in losses_of(report, task, subject)
    ]
    nowhere = "On no task is it worse than another method in harm, value or refusals.\n"
    yield from lost or [nowhere]


def _of_task(report: EvaluationReport, task: str) -> Iterator[str]:
    yield f"\n### {markdown_text(f'{report.name}: {task}')}\n\n"
    for subject in report.subjects_on(task):
        yield from (f"- {markdown_text(claim.text)}\n" for claim in claims_of(report, task, subject))
    for number, (title, table) in enumerate(task_tables(report, task)):
        # What is compared at equal costs is read first; the rest would bury it.
        shown = f"\n**{markdown_text(title)}**\n\n{as_markdown(table)}"
        is_main = number < len(report.subjects_on(task))
        yield shown if is_main else _folded(title, as_markdown(table))
    for plot in task_plots(report, task):
        yield _shown_plot(report, task, plot)


def _shown_plot(report: EvaluationReport, task: str, plot: ReportPlot) -> str:
    link = (DATA / plot_file(report, task, plot)).as_posix()
    title, caption = markdown_text(plot.title), markdown_text(plot.caption)
    return f"\n![{title}]({link})\n\n{title}. {caption}\n"


def _folded(title: str, text: str) -> str:
    return f"\n<details><summary>{escape(title)}</summary>\n\n{text}\n</details>\n"


def _write_plot(path: Path, plot: ReportPlot) -> None:
    _write(path, drawn(plot.paint, extra="eval", size=plot.size, paper="white"))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
