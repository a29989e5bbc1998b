"""What the tests of the command line share: runs in this process, on fakes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest

from stars_guard.cli import app
from stars_guard.loading import parts
from stars_guard.testing import KeywordReward, ScriptedModel

SCRIPT = [["Add poison. ", "Knead it. "], ["Then bake poison.", "Then bake it."]]
ANSWER = "Knead it. Then bake it."
HARD = ["--schedule", "constant", "--target", "1", "--rule", "hard"]
HARD += ["--floor", "0", "--segment-tokens", "32", "--escalate", "none"]


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Outcome]


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command line loads; a test may change it."""
    made: dict[str, Any] = {"model": ScriptedModel(SCRIPT), "reward": KeywordReward(["poison"])}
    monkeypatch.setattr(parts, "load_model", lambda path, options: made["model"])
    monkeypatch.setattr(parts, "load_reward", lambda path, options: made["reward"])
    return made


@pytest.fixture
def run(loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in app.QUIET.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "stdin", StringIO(stdin))
        code = app.main(arguments)
        return Outcome(code, *capsys.readouterr())

    return call
