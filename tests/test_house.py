"""The structure of the package stays within the limits that make it easy to find one's way in it."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.house import measure, picture

ROOT = Path(__file__).parents[1]


def test_no_circle_of_imports_type_only_ones_included():
    assert measure.circles(ROOT) == []


def test_few_modules_stand_at_the_top():
    assert len(measure.top_level_modules(ROOT)) <= 15


def test_public_names_are_unique():
    assert measure.twins(ROOT, aliases=True) == {}


def test_docstrings_name_their_subject():
    assert list(map(str, measure.subjectless_docstrings(ROOT))) == []


def test_functions_and_files_are_short():
    assert measure.long_functions(ROOT) == []
    assert measure.long_files(ROOT) == {}
    assert statistics.median(function.lines for function in measure.functions(ROOT)) < 10


def test_contributing_shows_the_house_as_it_is():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert picture.replaced(page, ROOT) == page
