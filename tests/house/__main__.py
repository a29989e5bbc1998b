"""``python -m tests.house``: the structure of the package in a checkout, in figures.

With ``--against`` a second checkout is measured beside the first. ``--list`` prints what is behind a figure
of the first checkout, instead of the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.house import measure, picture
from tests.house.source import PACKAGE

CHECKOUT = Path(__file__).parents[2]


def _circles(root: Path) -> list[str]:
    return [" <-> ".join(members) for members in measure.circles(root)]


def _twins(root: Path) -> list[str]:
    without_aliases = measure.twins(root)
    return [
        f"{name}: {', '.join(modules)}{'' if name in without_aliases else ' (only with type aliases)'}"
        for name, modules in measure.twins(root, aliases=True).items()
    ]


def _docstrings(root: Path) -> list[str]:
    return [str(docstring) for docstring in measure.subjectless_docstrings(root)]


def _functions(root: Path) -> list[str]:
    return [str(function) for function in measure.long_functions(root)]


def _files(root: Path) -> list[str]:
    long = measure.long_files(root, measure.MIDDLING_FILE)
    return [f"{path}, {lines} lines" for path, lines in long.items()]


def _arrows(root: Path) -> list[str]:
    return [f"{importer} -> {room}" for importer, room in measure.room_arrows(root)]


def _walk(root: Path) -> list[str]:
    way = measure.walk(root)
    by_count = sorted(way.crossings.items(), key=lambda crossing: (-crossing[1], crossing[0]))
    return [*way.files, *(f"{calls:4} {border}" for border, calls in by_count)]


LISTS: dict[str, Callable[[Path], list[str]]] = {
    "circles": _circles,
    "twins": _twins,
    "docstrings": _docstrings,
    "functions": _functions,
    "files": _files,
    "arrows": _arrows,
    "walk": _walk,
}


def table(columns: dict[str, dict[str, float]]) -> str:
    """Figures of several checkouts as a Markdown table that is also aligned for reading as it is."""
    labels = list(dict.fromkeys(label for figures in columns.values() for label in figures))
    rows = [[label, *(_cell(figures.get(label)) for figures in columns.values())] for label in labels]
    rows.insert(0, ["", *columns])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = [widths[0] * "-", *((width - 1) * "-" + ":" for width in widths[1:])]
    rows.insert(1, rule)
    return "\n".join(_line(row, widths) for row in rows)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,g}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return f"| {' | '.join((row[0].ljust(widths[0]), *numbers))} |"


def _checkout(argument: str) -> Path:
    root = Path(argument).resolve()
    if not (root / PACKAGE).is_dir():
        raise argparse.ArgumentTypeError(f"{argument} holds no folder {PACKAGE}")
    return root


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.house", description=__doc__)
    parser.add_argument("--root", type=_checkout, default=CHECKOUT, help="checkout to measure; default: this")
    parser.add_argument("--against", type=_checkout, help="checkout to measure beside it")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, by checkout")
    parser.add_argument("--picture", action="store_true", help="draw the house anew in CONTRIBUTING.md")
    parser.add_argument("--list", choices=LISTS, help="print what is behind a figure of the first checkout")
    return parser.parse_args()


def _columns(root: Path, against: Path | None) -> dict[str, dict[str, float]]:
    """Figures by the name of the checkout, or by its path where both have the same name."""
    roots = [root] if against is None else [root, against]
    names = [path.name for path in roots]
    if len(set(names)) < len(names):
        names = [str(path) for path in roots]
    return {name: measure.figures(path) for name, path in zip(names, roots, strict=True)}


def main() -> None:
    """Measure, and print."""
    arguments = _arguments()
    if arguments.picture:
        page = arguments.root / "CONTRIBUTING.md"
        page.write_text(picture.replaced(page.read_text("utf-8"), arguments.root), "utf-8")
        return
    if arguments.list:
        text = "\n".join(LISTS[arguments.list](arguments.root))
    else:
        columns = _columns(arguments.root, arguments.against)
        text = json.dumps(columns, indent=2) if arguments.json else table(columns)
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
