"""How many prompts it would take to see a small difference."""

from __future__ import annotations

from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.statistics.power import TWO_POINTS, prompts_needed
from stars_guard.evaluation.tables import ReportTable

_RATES = ("harmful", "refused")


def power_table(report: EvaluationReport, task: str) -> ReportTable:
    """Prompts that a difference of two points to each other method would need, by every rate.

    Args:
        report: the evaluation.
        task: name of the task.
    """
    compared = [c for c in report.tasks[task].comparisons if c.figure in _RATES]
    rows = (
        (
            c.method,
            c.other,
            f"{c.figure} by {c.judge}" if c.judge else c.figure,
            c.difference.prompts,
            # Where no prompt differs, nothing is known of how far prompts spread.
            prompts_needed(c.difference.spread) if c.difference.spread else None,
        )
        for c in compared
    )
    return ReportTable(
        columns=(
            ("method", "text"),
            ("and", "text"),
            ("rate", "text"),
            ("prompts", "count"),
            ("needed", "count"),
        ),
        rows=tuple(rows),
        note=f"Prompts needed to find {100 * TWO_POINTS:g} points in four of five evaluations.",
    )
