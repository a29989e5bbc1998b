"""Every measure of the package's structure, for tests to assert limits with, and all of them as figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.house.definitions import LONGEST_FUNCTION, functions, long_functions, twins
from tests.house.docstrings import Docstring, docstrings, subjectless_docstrings
from tests.house.imports import circles, import_graph, room_arrows, rooms
from tests.house.sizes import LONGEST_FILE, code_lines, long_files, total_lines
from tests.house.source import FRONT_DOORS, PACKAGE, integration_sources, sources, top_level_modules

__all__ = [
    "Walk",
    "circles",
    "code_lines",
    "docstrings",
    "figures",
    "functions",
    "import_graph",
    "integration_sources",
    "long_files",
    "long_functions",
    "room_arrows",
    "rooms",
    "sources",
    "subjectless_docstrings",
    "top_level_modules",
    "total_lines",
    "twins",
    "walk",
]

SECONDS_TO_WALK = 60
MIDDLING_FILE = 300
"""Lines over which a file is on its way to being a long one."""


@dataclass(frozen=True)
class Walk:
    """The way of a prompt through the package."""

    files: list[str]
    """Files of the package that were entered."""
    crossings: dict[str, int]
    """Calls from one file of the package into another, as ``caller.py -> callee.py`` and how many."""

    @property
    def border_crossings(self) -> int:
        """Number of all calls from one file of the package into another."""
        return sum(self.crossings.values())


def walk(root: Path) -> Walk:
    """Answer a prompt with the package of the checkout ``root``, in a process of its own, and watch.

    Raises:
        RuntimeError: the walk failed, or another checkout's package was imported.
    """
    script = Path(__file__).with_name("walk.py")
    environment = {**os.environ, "PYTHONPATH": str(root.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", str(script)]
    process = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS_TO_WALK, check=False
    )
    if process.returncode:
        raise RuntimeError(f"the walk through {root} failed:\n{process.stderr}")
    seen = json.loads(process.stdout)
    if Path(seen["package"]).resolve() != (root / PACKAGE).resolve():
        raise RuntimeError(f"the walk through {root} led through {seen['package']}")
    return Walk(seen["files"], seen["crossings"])


def figures(root: Path) -> dict[str, float]:
    """Every figure of a checkout by what it counts."""
    return {**_module_figures(root), **_name_figures(root), **_size_figures(root), **_walk_figures(root)}


def _module_figures(root: Path) -> dict[str, float]:
    top = top_level_modules(root)
    return {
        "modules at the top level": len(top),
        "of these, besides __init__ and __main__": len(set(top) - FRONT_DOORS),
        "modules in all": len(sources(root)),
        "circles of imports": len(circles(root)),
        "modules in a circle": sum(map(len, circles(root))),
        "rooms": len(rooms(root)),
        "import arrows between rooms": len(room_arrows(root)),
    }


def _name_figures(root: Path) -> dict[str, float]:
    inside, elsewhere = _by_place(docstrings(root))
    subjectless_inside, subjectless_elsewhere = _by_place(subjectless_docstrings(root))
    return {
        "public names defined twice (classes, functions)": len(twins(root)),
        "public names defined twice, type aliases too": len(twins(root, aliases=True)),
        "docstrings of classes, functions, class fields": inside,
        "of these, without a subject": subjectless_inside,
        "docstrings elsewhere": elsewhere,
        "of those elsewhere, without a subject": subjectless_elsewhere,
    }


def _by_place(texts: Iterable[Docstring]) -> tuple[int, int]:
    """Number of docstrings in classes and functions, and of those elsewhere."""
    inside = [text.in_a_class_or_function for text in texts]
    return inside.count(True), inside.count(False)


def _size_figures(root: Path) -> dict[str, float]:
    parts = {PACKAGE: sources(root), **integration_sources(root)}
    lines = {f"lines, {name}": total_lines(files) for name, files in parts.items()}
    code = {f"lines of code, {name}": code_lines(files) for name, files in parts.items()}
    return {
        **code,
        **lines,
        "functions": len(functions(root)),
        "median length of a function": statistics.median(function.lines for function in functions(root)),
        f"functions over {LONGEST_FUNCTION} lines": len(long_functions(root)),
        f"files over {MIDDLING_FILE} lines": len(long_files(root, MIDDLING_FILE)),
        f"files over {LONGEST_FILE} lines": len(long_files(root)),
    }


def _walk_figures(root: Path) -> dict[str, float]:
    way = walk(root)
    return {
        "files entered on the walk of a prompt": len(way.files),
        "border crossings on the walk of a prompt": way.border_crossings,
    }
