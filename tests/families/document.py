"""The document that says which families were tried: sections between marks, each written by a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

PATH = Path(__file__).parents[2] / "docs" / "families.md"


def replaced(text: str, section: str, body: str) -> str:
    """The document with a section written anew, all else as it was.

    Args:
        text: the document.
        section: its name in the marks, for example ``architectures``.
        body: what is to stand between them.
    """
    before, begin, after = text.partition(_mark(section, "begin"))
    _, end, rest = after.partition(_mark(section, "end"))
    if not (begin and end):
        raise ValueError(f"the document has no section {section!r}")
    return f"{before}{begin}\n{body.strip()}\n{end}{rest}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        header: of its columns.
        rows: their cells.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def rows_of(section: str) -> dict[str, list[str]]:
    """The cells of a section's table, by the first of each row.

    Args:
        section: its name in the marks.
    """
    written = PATH.read_text(encoding="utf-8")
    inside = written.partition(_mark(section, "begin"))[2].partition(_mark(section, "end"))[0]
    lines = [line for line in inside.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    return {row[0].strip("`"): row[1:] for row in cells}


def _mark(section: str, side: str) -> str:
    return f"<!-- {section}: {side} -->"
