"""The border: integrations, recipes and pages import what the package offers, nothing from deeper inside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from doctest import DocTestParser
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INTEGRATIONS = sorted((ROOT / "integrations").rglob("*.py"))
RECIPES = sorted((ROOT / "cookbook").rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "integrations").glob("*/*.md")])


def imports(source: str) -> Iterator[tuple[str, str | None]]:
    """Modules of the package that a source imports, each with the name that it takes from there, if any."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if belongs(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and belongs(node.module):
            yield from ((node.module, alias.name) for alias in node.names)


def belongs(module: str) -> bool:
    return module.split(".")[0] == "stars_guard"


def is_public(module: str, name: str | None = None) -> bool:
    """Whether the module is the package or one level down, says what it offers, and offers the name."""
    if module == "stars_guard" and name is not None:
        return name in import_module(module).__all__ or is_public(f"stars_guard.{name}")
    if module.count(".") > 1:
        return False
    try:
        offered = getattr(import_module(module), "__all__", None)
    except ModuleNotFoundError:
        return False
    return offered is not None and (name is None or name in offered)


def deep_imports(source: str) -> list[tuple[str, str | None]]:
    return [(module, name) for module, name in imports(source) if not is_public(module, name)]


def code_of(page: Path) -> str:
    """The Python blocks of a page, one below the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.M | re.S))


def examples_of(source: str) -> str:
    """The examples in the docstrings of a source, one below the other."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    docstrings = [ast.get_docstring(node) or "" for node in nodes]
    examples = [example for text in docstrings for example in DocTestParser().get_examples(text)]
    return "".join(example.source for example in examples)


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [*INTEGRATIONS, *RECIPES], ids=label)
def test_a_file_imports_public_names_only(path: Path) -> None:
    source = path.read_text("utf-8")
    assert deep_imports(source) + deep_imports(examples_of(source)) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_a_page_imports_public_names_only(page: Path) -> None:
    assert deep_imports(code_of(page)) == []


def test_everything_is_looked_at() -> None:
    assert len(INTEGRATIONS) > 40
    assert len(RECIPES) > 10
    sources = [*(path.read_text("utf-8") for path in [*INTEGRATIONS, *RECIPES]), *map(code_of, PAGES)]
    assert sum(len(list(imports(source))) for source in sources) > 100


@pytest.mark.parametrize(
    ("source", "deep"),
    [
        ("from stars_guard import GuardConfig, embedded", []),
        ("import stars_guard.models", []),
        ("from stars_guard.rewards import Reward", []),
        ("from stars_guard_elsewhere.deep.down import anything", []),
        ("from stars_guard import Nothing", [("stars_guard", "Nothing")]),
        ("from stars_guard import guarded", [("stars_guard", "guarded")]),
        ("from stars_guard.guarded import StarsGuardedLLM", [("stars_guard.guarded", "StarsGuardedLLM")]),
        ("from stars_guard.rewards import base", [("stars_guard.rewards", "base")]),
        ("def late():\n    import stars_guard.rewards.base", [("stars_guard.rewards.base", None)]),
    ],
)
def test_what_counts_as_deep(source: str, deep: list[tuple[str, str | None]]) -> None:
    assert deep_imports(source) == deep
