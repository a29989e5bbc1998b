"""What the package defines: public names that exist twice, and how long its functions are."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.house.source import Source, sources

LONGEST_FUNCTION = 50
"""Lines up to which a function is not called long."""


@dataclass(frozen=True)
class Function:
    """A function or method, from the line of its ``def`` to its last line."""

    path: Path
    line: int
    name: str
    """Name with those of the classes and functions around it."""
    lines: int
    """Number of lines, docstring and signature included, decorators excluded."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.name}, {self.lines} lines"


def twins(root: Path, *, aliases: bool = False) -> dict[str, list[str]]:
    """Public names that two or more modules define at their top level, each with those modules.

    Classes and functions count. A name that a module merely imports does not.

    Args:
        root: the checkout.
        aliases: count type aliases (``Name: TypeAlias = ...``) as well.
    """
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources(root):
        for name in _defined(source, aliases=aliases):
            homes[name].add(source.module)
    return {name: sorted(homes[name]) for name in sorted(homes) if len(homes[name]) > 1}


def functions(root: Path) -> list[Function]:
    """Every function and method of the package, nested ones included."""
    return [function for source in sources(root) for function in _functions(source, source.tree, "")]


def long_functions(root: Path, limit: int = LONGEST_FUNCTION) -> list[Function]:
    """Functions of more than ``limit`` lines, the longest first."""
    over = [function for function in functions(root) if function.lines > limit]
    return sorted(over, key=lambda function: -function.lines)


def _defined(source: Source, *, aliases: bool) -> Iterator[str]:
    for node in source.tree.body:
        name = ""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = node.name
        elif aliases and isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            name = ast.unparse(node.target)
        if name and not name.startswith("_"):
            yield name


def _functions(source: Source, node: ast.AST, around: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        inside = around
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = f"{around}{child.name}."
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            last = child.end_lineno or child.lineno
            yield Function(source.path, child.lineno, around + child.name, last - child.lineno + 1)
        yield from _functions(source, child, inside)
