"""The Python sources of a checkout, each read and parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "stars_guard"
FRONT_DOORS = {"__init__", "__main__"}
"""Files at the top of the package that are ways into it rather than modules of it."""


@dataclass(frozen=True, eq=False)
class Source:
    """A Python file of a checkout."""

    path: Path
    """Path relative to the checkout."""
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether this file is the ``__init__`` of a package."""
        return self.path.name == "__init__.py"

    @property
    def module(self) -> str:
        """Dotted name by which the file is imported; a package's ``__init__`` goes by the package's name."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if self.is_package else parts)

    @property
    def at_the_top(self) -> bool:
        """Whether the file lies in the package's folder itself."""
        return len(self.path.parts) == 2

    @property
    def lines(self) -> int:
        """Number of lines, blank lines and comments included."""
        return len(self.text.splitlines())


@cache
def sources(root: Path) -> tuple[Source, ...]:
    """Files of the package in the checkout ``root``, in the order of their paths."""
    return tuple(_read(root, root / PACKAGE))


@cache
def integration_sources(root: Path) -> dict[str, tuple[Source, ...]]:
    """Files of each distribution under ``integrations/``, tests excluded, by the name of its folder."""
    folders = sorted(path.parent for path in (root / "integrations").glob("*/pyproject.toml"))
    return {
        folder.name: tuple(source for source in _read(root, folder) if "tests" not in source.path.parts)
        for folder in folders
    }


def top_level_modules(root: Path) -> list[str]:
    """Names of the ``.py`` files in the package's folder itself, ``__init__`` and ``__main__`` included."""
    return [source.path.stem for source in sources(root) if source.at_the_top]


def _read(root: Path, folder: Path) -> Iterator[Source]:
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield Source(path.relative_to(root), text, ast.parse(text))
