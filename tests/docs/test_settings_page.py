"""The page of settings is what the models say now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stars_guard.cli.app import main

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out == PAGE.read_text("utf-8"), (
        "write it anew: stars-guard config reference > docs/settings.md"
    )


def test_every_setting_is_explained_and_every_link_leads_somewhere() -> None:
    page = PAGE.read_text("utf-8")
    assert len(re.findall(r"^\| `\w+` \|", page, flags=re.M)) > 150
    assert re.findall(r"^\| `(\w+)` \|.*\|  \|$", page, flags=re.M) == []
    headings = {title.lower() for title in re.findall(r"^## (.+)$", page, flags=re.M)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings
