"""The comparison of escalation policies, on a script."""

from __future__ import annotations

import math
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.escalation import POLICIES, PROMPTS, interval, measure, rows, table
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Constant, Hard
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel

pytestmark = pytest.mark.slow

ASKED = ["Say it.", "Say it again."]


def script(prompt):
    """Only a hint helps with the second segment; the first is right at the second attempt."""
    hinted = "safe and kind" in prompt.as_text()
    opening = ["Poison. ", "Bread. "]
    second = ["Bread.#"] if hinted else ["Poison.#"]
    # Where segments are withdrawn, later tries are written from further down the script.
    return [opening, second, opening, second, opening, second]


@pytest.fixture
def found():
    config = GuardConfig(
        threshold=Constant(target=1.0),
        acceptance=Hard(),
        drawing=Fixed(candidates=1),
        max_attempts=6,
        exhaustion=Best(floor=-2.0),
    )
    sampling = SamplingParams(stop=("#",))
    guard = StarsGuardedLLM(ScriptedModel(script), KeywordReward(["poison"]), config, sampling=sampling)
    return measure(guard, ASKED, repeats=2)


def test_every_policy_answers_every_prompt_with_the_same_seeds(found):
    seeds = [
        [[one.trace.sampling.seed for one in turn] for turn in turns.results] for turns in found.values()
    ]
    assert list(found) == list(POLICIES)
    assert seeds == [[[0, 1], [2, 3]]] * len(POLICIES)


def test_the_figures_are_those_of_the_script(found):
    none, _, hint, _ = made = rows(found)
    assert [one.policy for one in made] == list(POLICIES)
    # Two attempts at the first segment; six at the other, which is forced.
    assert (none.failed, none.attempts) == (0.5, 4.0)
    assert none.seconds == 1.0
    assert none.gain == (0.0, 0.0, 0.0)
    # The hint answers after its four attempts, and nothing is forced.
    assert hint.failed == 0
    assert hint.attempts == pytest.approx((2 + 5) / 2)
    assert hint.gain[0] == pytest.approx(hint.reward[0] - none.reward[0]) == pytest.approx(2.0)


def test_going_back_costs_and_is_counted(found):
    none, *_, back = rows(found)
    assert back.attempts > none.attempts
    assert back.tokens > none.tokens


def test_the_table_has_a_line_for_each(found):
    screen = Console(file=StringIO(), width=120)
    screen.print(table(rows(found)))
    assert all(name in screen.file.getvalue() for name in POLICIES)


def test_an_interval_holds_the_mean_and_is_a_point_without_spread():
    assert interval([2.0] * 5) == (2.0, 2.0, 2.0)
    mean, low, high = interval([0.0, 1.0] * 50)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(100), rel=0.2)


def test_the_prompts_are_there():
    assert len(PROMPTS.read_text(encoding="utf-8").splitlines()) >= 16
