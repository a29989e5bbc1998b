"""The documentation runs: README, docstrings and cookbook."""

from __future__ import annotations

import doctest
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import stars_guard.guarded
from stars_guard.cli.program import program
from tests.support.pages import blocks, executed
from tests.support.programs import Programs, loaded

# Whole programs on a real model; what they run is covered elsewhere.
pytestmark = pytest.mark.no_cover

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMING = [*PAGES[1:], *sorted(ROOT.glob("*.md")), *sorted((ROOT / "integrations").glob("*/README.md"))]
EVENTS = ("stars_guard.decision", "stars_guard.trace")
"""Names of events, which are nothing to be imported."""
RECIPES = sorted((ROOT / "cookbook").glob("[0-9]*.py"))


@pytest.mark.embedded
@pytest.mark.parametrize("page", [one for one in PAGES if blocks(one, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_and_prints_what_the_page_shows(page: Path) -> None:
    outputs = [(block["output"], printed) for block, printed in executed(page)]
    assert any(printed.strip() for _, printed in outputs)
    shown = [(output, printed) for output, printed in outputs if output is not None]
    assert [output for output, _ in shown] == [printed for _, printed in shown]


def test_every_command_of_the_pages_exists() -> None:
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    commands = {line.split()[1] for line in lines if line.startswith("stars-guard ")}
    known = {
        command.name or command.callback.__name__.replace("_", "-") for command in program.registered_commands
    }
    known |= {group.name for group in program.registered_groups}
    assert commands
    assert commands <= known
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_a_page_names_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(((?!http|#)[^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, heading = target.partition("#")
        assert (page.parent / file).exists(), target
        assert not heading or heading in headings(page.parent / file), target


@pytest.mark.parametrize("page", NAMING, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_names_on_a_page_are_public(page: Path) -> None:
    for name in re.findall(r"`(stars_guard(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
        # A public module is at most one level below the package.
        assert name in EVENTS or (name.count(".") <= 2 and pkgutil.resolve_name(name)), name


def headings(page: Path) -> list[str]:
    """Headings of a page, as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_docstring_examples_run() -> None:
    assert doctest.testmod(stars_guard.guarded).attempted > 0
    assert doctest.testmod(stars_guard.guarded).failed == 0


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with loaded() as programs:
        yield programs


@pytest.mark.embedded
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(recipe: Path, programs: Programs, tmp_path: Path) -> None:
    status = programs.run(recipe, tmp_path / "output")
    output = (tmp_path / "output").read_text()
    assert status == 0, output
    assert output.strip()


def test_a_recipe_is_under_a_screen() -> None:
    assert RECIPES
    for recipe in RECIPES:
        assert len(recipe.read_text().splitlines()) <= 50, recipe.name


def test_the_changelog_names_this_version() -> None:
    assert f"## [{stars_guard.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
