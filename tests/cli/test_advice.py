"""Advice on the settings, where people see it: once, on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stars_guard.testing import ScriptedModel
from tests.support.cli_runner import HARD, Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

OUT_OF_REACH = [["Add poison. "], ["Then bake poison. "], ["Then eat poison."]]
FORCING = [*HARD, "--max-attempts", "2", "--exhaustion", "last", "--floor", "-9"]
WORDS = "advice: 3 of 3 segments found no candidate that the rule accepts"


@pytest.fixture
def hopeless(loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel(OUT_OF_REACH)


def test_generate_says_it_after_the_answer(run: Run, hopeless: None) -> None:
    done = run("generate", "Hi", *FORCING)
    assert done.code == 0
    assert done.err.count(WORDS) == 1
    assert "stars-guard calibrate" in done.err.splitlines()[-1]
    assert "advice" not in done.out


def test_what_is_in_reach_is_not_advised_on(run: Run) -> None:
    assert "advice" not in run("generate", "Hi", *HARD).err


def test_chat_says_it_once(run: Run, hopeless: None) -> None:
    done = run("chat", *FORCING, stdin="Hello\nAnd then?\n/quit\n")
    assert done.err.count(WORDS) == 1


def test_demo_says_it_once(run: Run, hopeless: None, tmp_path: Path) -> None:
    done = run("demo", *FORCING, "--output", str(tmp_path / "out"))
    assert done.code == 0, done.err
    assert done.err.count(WORDS) == 1
    assert "advice" not in done.out


def test_a_batch_counts_it_and_says_it_once(run: Run, hopeless: None, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": str(n), "prompt": "Hi"}) + "\n" for n in range(3)))
    files = ["--input", str(rows), "--output"]
    done = run("batch", *files, str(tmp_path / "out.jsonl"), *FORCING)
    assert done.code == 0, done.err
    assert done.err.count(WORDS) == 1
    summary = json.loads(run("batch", *files, str(tmp_path / "again.jsonl"), *FORCING, "--json").out)
    assert summary["advised"] == 3
    assert summary["advice"]["message"][:40] in WORDS
