"""Docstrings, those of fields and module-level names included, and those among them that name no subject."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from tests.house.source import Source, sources

Place: TypeAlias = Literal["module", "definition", "class field", "name", "instance field"]
"""What a docstring describes: a module, a class or function, a field annotated or assigned in the body of a
class, a name at the top level of a module, or a field assigned in a method."""

OPENINGS = (
    # pronouns, which point at something outside the docstring
    *("It", "Its", "He", "His", "She", "Her", "They", "Their", "Theirs", "Them"),
    *("This", "That", "These", "Those", "Both", "Same", "The same", "All of"),
    *("Whose", "By which", "With which"),
    # words that go on with a sentence begun elsewhere
    *("As", "Of", "Also", "Likewise", "Always", "Passed on"),
    # the absence of a subject
    "Nothing",
)
"""First words of docstrings that make sense only beside their neighbours. ``Like :meth:`stream` ...`` is no
such opening: it says what to read instead."""

_SUBJECTLESS = re.compile(rf"({'|'.join(OPENINGS)})\b")


@dataclass(frozen=True)
class Docstring:
    """A docstring and where it is written."""

    path: Path
    line: int
    last_line: int
    place: Place
    text: str
    """Text on a single line, runs of blanks made into single blanks."""

    @property
    def in_a_class_or_function(self) -> bool:
        """Whether the docstring is that of a class, of a function, or of a field in the body of a class."""
        return self.place in ("definition", "class field")

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.text}"


def docstrings(root: Path) -> list[Docstring]:
    """Every docstring of the package, by file and line."""
    return [docstring for source in sources(root) for docstring in docstrings_of(source)]


def subjectless_docstrings(root: Path) -> list[Docstring]:
    """Docstrings that begin with one of ``OPENINGS``, wherever they are."""
    return [docstring for docstring in docstrings(root) if _SUBJECTLESS.match(docstring.text)]


def docstrings_of(source: Source) -> list[Docstring]:
    """Docstrings of a file, by line."""
    return sorted(
        (
            Docstring(source.path, node.lineno, node.end_lineno or node.lineno, place, " ".join(text.split()))
            for place, node, text in _string_statements(source.tree)
        ),
        key=lambda docstring: docstring.line,
    )


def _string_statements(tree: ast.Module) -> Iterator[tuple[Place, ast.Expr, str]]:
    for parent in ast.walk(tree):
        body: list[ast.stmt] = getattr(parent, "body", [])
        if not isinstance(body, list):  # the body of a lambda or of a conditional expression
            continue
        for before, node in zip([None, *body], body, strict=False):
            place = _place(parent, before)
            if place and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                text = node.value.value
                if isinstance(text, str):
                    yield place, node, text


def _place(parent: ast.AST, before: ast.stmt | None) -> Place | None:
    """What a string would describe that stands in ``parent`` right after ``before``; None if nothing."""
    is_module, is_class = isinstance(parent, ast.Module), isinstance(parent, ast.ClassDef)
    if before is None:
        is_definition = is_class or isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef)
        return "module" if is_module else "definition" if is_definition else None
    if not isinstance(before, ast.Assign | ast.AnnAssign):
        return None
    return "name" if is_module else "class field" if is_class else "instance field"
