"""Figures in a page: only what stands between the markers changes."""

from __future__ import annotations

import pytest

from benchmarks.page import table, write_between
from stars_guard import ConfigurationError


def test_a_table_replaces_what_stood_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n")
    for _ in range(2):
        write_between(page, "speed", table(["what", "measured"], [["a", "1"]]))
        assert page.read_text() == (
            "before\n<!-- speed -->\n| what | measured |\n| --- | --- |\n| a | 1 |\n<!-- /speed -->\nafter\n"
        )


@pytest.mark.parametrize("text", ["", "<!-- speed -->\n", "<!-- /speed -->\n<!-- speed -->\n"])
def test_a_page_without_markers_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ConfigurationError, match="no line <!-- speed -->"):
        write_between(page, "speed", "new\n")
    assert page.read_text() == text
