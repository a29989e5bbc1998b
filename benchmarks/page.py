"""Figures in a page of the docs: a table between two markers, which a run writes anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stars_guard.errors import ConfigurationError


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        head: of the columns.
        rows: of cells, as many as there are columns.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write_between(page: Path, marker: str, text: str) -> None:
    """Put a text between the markers of that name.

    Args:
        page: the file.
        marker: name in ``<!-- marker -->`` and ``<!-- /marker -->``, each on a line of its own.
        text: what then stands between them, and nothing else.

    Raises:
        ConfigurationError: the page has no such markers.
    """
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->\n"
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ConfigurationError(f"{page} has no line {begin.strip()} with {end.strip()} after it")
    page.write_text(f"{before}{begin}{text}{end}{after}", encoding="utf-8")
