"""The documentation runs: README, docstrings and cookbook."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import stars_guard.guarded
from stars_guard.cli.program import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = sorted((ROOT / "cookbook").glob("[0-9]*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


@pytest.mark.embedded
def test_the_python_of_the_readme_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, object] = {}
    found = blocks("python")
    assert len(found) >= 3
    for block in found:
        exec(compile(block, "README.md", "exec"), namespace)
    assert capsys.readouterr().out.strip()


def test_every_command_of_the_readme_exists() -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    commands = {line.split()[1] for line in lines if line.startswith("stars-guard ")}
    known = {
        command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands
    }
    assert commands
    assert commands <= known
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


def test_the_files_the_readme_names_are_there() -> None:
    for target in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_docstring_examples_run() -> None:
    assert doctest.testmod(stars_guard.guarded).attempted > 0
    assert doctest.testmod(stars_guard.guarded).failed == 0


@pytest.mark.embedded
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(recipe: Path) -> None:
    done = subprocess.run([sys.executable, str(recipe)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_recipe_is_under_a_screen() -> None:
    assert RECIPES
    for recipe in RECIPES:
        assert len(recipe.read_text().splitlines()) <= 50, recipe.name


def test_the_changelog_names_this_version() -> None:
    assert f"## [{stars_guard.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
