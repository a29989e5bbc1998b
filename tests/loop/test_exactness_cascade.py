"""The law with a cascade: pi(s) exp(min(r, tau) / beta) 1[r >= floor] / Z, with the cascade's own reward r.

Enumerated on a tiny model and compared by chi-square as in test_exactness.
"""

from __future__ import annotations

import logging
import math
from functools import cache
from itertools import pairwise

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from stars_guard.rewards.cascade import Cascade
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import TabularModel
from tests.loop.test_exactness import ERROR_RATE, distribution, p_value, proposals

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

VOCABULARY, EOS, LONGEST = ("a", "b", "."), 3, 4
"""Those of test_exactness, whose proposals are enumerated here."""
LOW, HIGH, TARGET, FLOOR, BETA = -0.5, 1.5, 1.0, -0.5, 0.8


def text_of(ids):
    return "".join((*VOCABULARY, "")[token] for token in ids)


def first(text):
    return 0.75 * text.count("a") - 0.5 * text.count("b")


def second(text):
    return 2.0 * text.endswith(".") - 1.5 * ("ab" in text) + 0.25


def cascaded(text):
    """The reward as the docs state it."""
    x, y = first(text), second(text)
    return min(HIGH, max(LOW, (x + y) / 2)) if LOW <= x <= HIGH else x


def law_of(reward, floor=FLOOR):
    """The closed form over answers of one segment. Nothing here comes from the package."""
    tilted = {
        ids: mass * math.exp(min(reward(text_of(ids)), TARGET) / BETA) * (reward(text_of(ids)) >= floor)
        for ids, mass in proposals((), lambda ids: False).items()
    }
    return {ids: mass / sum(tilted.values()) for ids, mass in tilted.items() if mass}


@cache
def answers(count):
    cascade = Cascade(
        {
            "cheap": FunctionReward(lambda prompt, response: first(response), "cheap"),
            "dear": FunctionReward(lambda prompt, response: second(response), "dear"),
        },
        low=LOW,
        high=HIGH,
    )
    config = GuardConfig(
        threshold=Constant(target=TARGET),
        acceptance=Soft(beta=BETA),
        floor=FLOOR,
        segments=FixedLength(max_tokens=LONGEST),
        drawing=Fixed(candidates=3),
        max_attempts=10**6,
        exhaustion=Refuse(),
    )
    llm = StarsGuardedLLM(TabularModel(distribution, (*VOCABULARY, ""), EOS), cascade, config)
    results = []
    for start, end in pairwise(range(0, count + 1, 250)):
        sampling = [SamplingParams(seed=seed, max_tokens=LONGEST) for seed in range(start, end)]
        results += llm.batch([Prompt.of("x")] * len(sampling), sampling=sampling)
    return results


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def test_answers_follow_the_law_of_the_cascades_reward():
    seen = [tuple(result.token_ids) for result in answers(2500)]
    assert p_value(seen, law_of(cascaded)) > ERROR_RATE


def test_the_trace_says_who_was_asked_about_what():
    attempts = [
        attempt
        for result in answers(2500)
        for segment in result.trace.segments
        for attempt in segment.attempts
    ]
    assert {"dear" in attempt.components for attempt in attempts} == {True, False}
    for attempt in attempts:
        assert ("dear" in attempt.components) == (LOW <= attempt.components["cheap"] <= HIGH)


def the_mean(text):
    return (first(text) + second(text)) / 2


@pytest.mark.parametrize("wrong", [first, second, the_mean])
def test_the_laws_of_its_parts_and_of_their_mean_are_told_apart(wrong):
    seen = [tuple(result.token_ids) for result in answers(2500)]
    assert p_value(seen, law_of(wrong, floor=-math.inf)) < ERROR_RATE
