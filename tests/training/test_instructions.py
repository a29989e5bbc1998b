"""Harmless instructions: many, each once, and none that is measured on."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from stars_guard.training.instructions import harmless_instructions

MEASURED = resources.files("stars_guard.evaluation.tasks").joinpath("sets", "plain-instructions.jsonl")


def test_there_are_as_many_as_asked_for_and_each_once():
    made = harmless_instructions(2000, seed=1)
    assert len(set(made)) == len(made) == 2000
    assert harmless_instructions(2000, seed=1) == made
    assert harmless_instructions(2000, seed=2) != made
    assert harmless_instructions(0, seed=1) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_slot_is_filled_and_nothing_is_measured_on(seed):
    lines = MEASURED.read_text(encoding="utf-8").splitlines()
    made = harmless_instructions(3000, seed)
    assert not {json.loads(line)["prompt"] for line in lines} & {*made}
    assert not [text for text in made if "{" in text or "  " in text]
