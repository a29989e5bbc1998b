"""A table of figures with their intervals, as records keep it and as readers see it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.settings import StoredRecord

FigureUnit: TypeAlias = Literal["share", "number", "seconds", "count", "text"]
TableEntry: TypeAlias = MeanEstimate | int | float | str | None
"""A figure, with its interval where it has one; None where nothing was measured."""


class ReportTable(StoredRecord):
    """A table, its figures not yet rounded."""

    columns: tuple[tuple[str, FigureUnit], ...]
    """Headings and units, the first being what a row is about."""
    rows: tuple[tuple[TableEntry, ...], ...]
    """One entry a column."""
    note: str = ""
    """What readers should know, or empty."""

    @property
    def headings(self) -> list[str]:
        """The headings."""
        return [name for name, _ in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        """The rows as they are shown."""
        units = [unit for _, unit in self.columns]
        return [[shown(entry, unit) for entry, unit in zip(row, units, strict=True)] for row in self.rows]


def shown(entry: TableEntry, unit: FigureUnit) -> str:
    """A figure as readers see it: ``25.0 % [12.5, 37.5]``, or a dash where nothing was measured.

    Args:
        entry: the figure.
        unit: what it is.
    """
    if entry is None:
        return "\u2013"
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, MeanEstimate):
        return _number(float(entry), unit)
    if entry.prompts == 1 and entry.low == entry.high:
        # One prompt has no spread: an interval of no width would look like certainty.
        return f"{_number(entry.value, unit)} (1 prompt)"
    low, high = (_number(end, unit).removesuffix(" %") for end in (entry.low, entry.high))
    return f"{_number(entry.value, unit)} [{low}, {high}]"


def _number(value: float, unit: FigureUnit) -> str:
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "count":
        return f"{value:g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def as_markdown(table: ReportTable) -> str:
    """A table in Markdown, ended by a line end."""
    rule = ["---" if unit == "text" else "---:" for _, unit in table.columns]
    lines = [table.headings, rule, *table.texts]
    note = f"\n{markdown_text(table.note)}\n" if table.note else ""
    return "".join(f"| {' | '.join(map(markdown_text, line))} |\n" for line in lines) + note


def markdown_text(text: str) -> str:
    """Text that cannot begin markup, end a cell of a table, or go over to the next line, in Markdown."""
    for mark in "\\`*_<>|":
        text = text.replace(mark, f"\\{mark}")
    # Brackets alone are those of intervals; before a parenthesis they would be a link, or load an image.
    return " ".join(text.replace("](", "]\\(").split())
