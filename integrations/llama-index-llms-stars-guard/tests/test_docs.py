"""The README and the docstring say what really happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from guards import BAD, scripted, user
from llama_index.core.instrumentation import get_dispatcher
from stars_guard.adapters import CallSettings

from llama_index.llms.stars_guard import base

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def test_the_swap_is_on_the_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:24])
    assert "# before" in first_screen
    assert "Settings.llm = StarsGuardedLLM()" in first_screen


def test_the_scripted_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (at,) = [n for n, (_, text) in enumerate(BLOCKS) if "ScriptedModel(" in text]
    exec(BLOCKS[at][1], {})
    assert capsys.readouterr().out == BLOCKS[at + 1][1]


def test_the_event_handler_sees_rejections(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for _, text in BLOCKS if "class Rejections" in text]
    before = list(get_dispatcher().event_handlers)
    try:
        exec(code, {"__name__": "readme"})
        scripted([[BAD, "Yes."]]).chat(user("Hi"))
    finally:
        get_dispatcher().event_handlers[:] = before
    assert capsys.readouterr().out == "segment 0: -1.00 is under 1.00\n"


def test_every_python_block_compiles() -> None:
    blocks = [text for language, text in BLOCKS if language == "python"]
    assert len(blocks) == 5
    for block in blocks:
        compile(block, "README.md", "exec")


def test_docstring_example() -> None:
    failed, tried = doctest.testmod(base)
    assert tried > 0
    assert failed == 0


def test_every_setting_of_a_call_is_named() -> None:
    assert {name for name in CallSettings.model_fields if f"`{name}`" not in README} == set()
