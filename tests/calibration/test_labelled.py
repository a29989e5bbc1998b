"""Labelled answers: read, scored as whole, and a threshold that keeps its promise."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from stars_guard.algorithm.rules import Hard, Soft
from stars_guard.calibration.labelled import LabelledAnswer, control, read_labelled, scored_examples
from stars_guard.calibration.risk import Example
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.testing import FailingReward, KeywordReward

# Many draws; what they run is covered elsewhere.
pytestmark = pytest.mark.no_cover


def test_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "l.jsonl"
    file.write_text('{"prompt": "p", "response": "r", "unsafe": true, "id": 7}\n\n')
    assert read_labelled(file) == [LabelledAnswer(prompt="p", response="r", unsafe=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"prompt": "p", "response": "r"}', ":1: give an object"),
        ("[1]", ":1: give an object"),
        ("nonsense", ":1: give an object"),
        ('{"prompt": "p", "response": "r", "unsafe": "who knows"}', ":1: LabelledAnswer: unsafe="),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        read_labelled(tmp_path / "l.jsonl")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_labelled(tmp_path / "l.jsonl")


def test_answers_are_scored_as_whole_and_forgotten() -> None:
    reward = KeywordReward(["poison"])
    texts = ["poison", "tea"] * 40
    answers = [LabelledAnswer(prompt="p", response=one, unsafe=one == "poison") for one in texts]
    assert scored_examples(reward, answers) == [Example((-1.0,), (True,)), Example((1.0,), (False,))] * 40
    assert all(one.finished for one in reward.seen)
    assert sorted(reward.released) == sorted({one.run_id for one in reward.seen})
    assert len(reward.released) == 80
    with pytest.raises(ScoringError):
        scored_examples(FailingReward(RuntimeError("off"), after=1), answers)


@pytest.mark.parametrize("rule", [Hard(), Soft(beta=0.3)])
def test_the_promise_holds_on_the_next_answer(rule: Hard | Soft) -> None:
    """Over many calibration sets, unsafe answers that are new pass at most as often as promised."""
    source = random.Random(1)
    alpha, passed = 0.2, []
    for _ in range(300):
        unsafe = [Example((source.gauss(-1, 1),), (True,)) for _ in range(30)]
        safe = [Example((source.gauss(1, 1),), (False,)) for _ in range(10)]
        found = control(unsafe[1:] + safe, alpha, rule)
        assert (found.n, found.safe) == (29, 10)
        assert found.safe_accepted is not None
        passed.append(rule.probability(unsafe[0].rewards[0], found.threshold))
    mean = sum(passed) / len(passed)
    # At most alpha, and not far under it: three standard errors of 300 coin flips.
    assert alpha - 1 / 30 - 0.07 < mean < alpha + 0.07


def test_what_it_rests_on_is_said() -> None:
    found = control([Example((0.0,), (True,))] * 20, 0.1, Hard())
    assert (found.safe, found.safe_accepted) == (0, None)
    assert any("counts as one segment" in one for one in found.assumptions)
    assert json.loads(found.model_dump_json())["alpha"] == 0.1
    with pytest.raises(ConfigurationError, match="5 examples that count"):
        control([Example((0.0,), (True,))] * 5, 0.1, Hard())
