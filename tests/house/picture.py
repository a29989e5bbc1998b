"""The house as CONTRIBUTING shows it: every room, its purpose, and what it may import, from the top down."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.house.layers import ALLOWED, PLAIN
from tests.house.source import sources

BEGIN = "<!-- The house, by `python -m tests.house --picture`: change tests/house/layers.py, not this. -->"
END = "<!-- The end of the house. -->"


def levels() -> list[list[str]]:
    """Rooms by how high they stand: those of a level import only from levels after it in the list."""
    heights: dict[str, int] = {}
    while len(heights) < len(ALLOWED):
        ready = [room for room in ALLOWED if room not in heights and ALLOWED[room] <= heights.keys()]
        if not ready:
            raise ValueError(f"a circle among {', '.join(sorted(set(ALLOWED) - heights.keys()))}")
        heights |= {room: 1 + max((heights[under] for under in ALLOWED[room]), default=-1) for room in ready}
    highest = max(heights.values())
    return [sorted(room for room in heights if heights[room] == level) for level in range(highest, -1, -1)]


def picture(root: Path) -> str:
    """The Markdown that CONTRIBUTING holds: a drawing, then a table, both from the one table of layers."""
    plain = ", ".join(f"`{room}`" for room in PLAIN)
    head = ["| room | what is in it | may import |", "|---|---|---|"]
    rows = [_row(root, room) for level in levels() for room in level]
    notes = [
        f"Every room may import {plain} as well.",
        "The drawing leaves out an arrow where a way round leads to the same room; the table is exact.",
    ]
    return "\n".join([_drawing(), "", *notes, "", *head, *rows])


def replaced(page: str, root: Path) -> str:
    """A page with the picture between its two marks drawn anew."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{picture(root)}\n\n{END}{after}"


def _drawing() -> str:
    arrows = [f"  {_node(room)} --> {_node(under)}" for room in ALLOWED for under in sorted(_direct(room))]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```"])


def _node(room: str) -> str:
    return f'{room.replace(".", "_")}["{room.replace(".", "/")}"]'


def _direct(room: str) -> set[str]:
    """Rooms that it may import and does not already reach by way of another."""
    below = ALLOWED[room]
    return {under for under in below if not any(under in _reach(other) for other in below - {under})}


def _reach(room: str) -> set[str]:
    return set(ALLOWED[room]).union(*(_reach(under) for under in ALLOWED[room]))


def _row(root: Path, room: str) -> str:
    allowed = ", ".join(under.replace(".", "/") for under in sorted(ALLOWED[room])) or "-"
    return f"| `{room.replace('.', '/')}` | {_purpose(root, room)} | {allowed} |"


def _purpose(root: Path, room: str) -> str:
    """First line of the room's own docstring."""
    tree = next(source.tree for source in sources(root) if source.module == f"stars_guard.{room}")
    return (ast.get_docstring(tree) or "").split("\n")[0].replace("|", "\\|")
