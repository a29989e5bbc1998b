"""Texts from forms: many, each once, and none that is measured on."""

from __future__ import annotations

import json
from importlib import resources
from typing import get_args

import pytest

from stars_guard.training.forms import FormName, filled_forms

MEASURED = resources.files("stars_guard.evaluation.tasks").joinpath("sets", "plain-instructions.jsonl")
NAMES = get_args(FormName)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_as_many_as_asked_for_and_each_once(name):
    made = filled_forms(name, 1000, seed=1)
    assert len(set(made)) == len(made) == 1000
    assert filled_forms(name, 1000, seed=1) == made
    assert filled_forms(name, 1000, seed=2) != made
    assert filled_forms(name, 0, seed=1) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_slot_is_filled_and_nothing_is_measured_on(name, seed):
    lines = MEASURED.read_text(encoding="utf-8").splitlines()
    made = filled_forms(name, 1500, seed)
    assert not {json.loads(line)["prompt"] for line in lines} & {*made}
    assert not [text for text in made if "{" in text or "  " in text]
    assert all(text[0].isupper() for text in made)
