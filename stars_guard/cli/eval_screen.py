"""An evaluation in the terminal: a table a task, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from stars_guard.evaluation.reporting.record import EvaluationReport
    from stars_guard.evaluation.reporting.tables import Column
    from stars_guard.evaluation.tables import ReportTable


def print_report(report: EvaluationReport, *, power: bool = False) -> None:
    """Write the main figures of every task to stdout.

    Args:
        report: the evaluation.
        power: also say how many prompts it takes to see two points.
    """
    from stars_guard.evaluation.reporting.claims import losses_of, summary_of
    from stars_guard.evaluation.reporting.power import power_table
    from stars_guard.evaluation.reporting.tables import (
        figures_of,
        method_table,
        price_columns,
        quality_columns,
    )

    screen = Console(highlight=False)
    for task in report.tasks:
        figures = figures_of(report, task)
        table = method_table(figures, [*_columns(quality_columns(figures)), *price_columns()])
        screen.print(Text(task, style="bold"))
        screen.print(_shown(table, report.subjects))
        for subject in report.subjects_on(task):
            screen.print(Text(summary_of(report, task, subject)))
            for loss in losses_of(report, task, subject):
                screen.print(Text(f"- {loss}", style="yellow"))
        if power:
            screen.print(_shown(power_table(report, task), ()))
        screen.print()


def _columns(quality: Sequence[Column]) -> list[Column]:
    """What fits a terminal: all but what is by design the same for some methods."""
    return [column for column in quality if column.name not in ("repaired", "forced")]


def _shown(table: ReportTable, subjects: Sequence[str]) -> Table:
    """A table whose headings and figures wrap where the terminal is narrow."""
    shown = Table(box=None, header_style="dim", pad_edge=False)
    for name, unit in table.columns:
        words = unit == "text"
        shown.add_column(Text(name), justify="left" if words else "right", no_wrap=words)
    for row in table.texts:
        # Intervals stand under their figures, so that a terminal of 80 columns has room.
        entries = (Text(entry.replace(" [", "\n[")) for entry in row)
        shown.add_row(*entries, style="bold" if row[0] in subjects else "")
    return shown
