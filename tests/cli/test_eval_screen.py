"""An evaluation in a terminal: no figure is cut off, however narrow it is."""

from __future__ import annotations

from rich.console import Console

from stars_guard.cli.eval_screen import _shown
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.tables import ReportTable


def test_a_figure_is_never_cut_off():
    figure = MeanEstimate(value=-0.25, low=-1.125, high=0.375, prompts=8)
    table = ReportTable(
        columns=(("method", "text"), *((f"value {number}", "number") for number in range(9))),
        rows=(("plain", *(figure for _ in range(9))),),
    )
    console = Console(width=60, record=True)
    console.print(_shown(table, ()))
    assert "\u2026" not in console.export_text()
