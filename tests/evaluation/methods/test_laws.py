"""The laws of methods, enumerated on a tiny model and compared by chi-square. Seeds are fixed."""

from __future__ import annotations

import logging
import math
from collections import Counter
from itertools import product

import pytest
from scipy.stats import chisquare

from stars_guard import GuardConfig, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.rules import Constant, Refuse
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.self_judged import SelfJudged
from stars_guard.evaluation.methods.whole_answer import WholeAnswer
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.judges.self_judgement import SelfJudgement
from stars_guard.testing import TabularModel

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

ANSWERS = 500
WEIGHTS = ((0.5, 0.3, 0.2), (0.2, 0.2, 0.6))
SAMPLING = SamplingParams(max_tokens=2)
TEXTS = ["".join(pair) for pair in product("abc", repeat=2)]


def probabilities(ids, weights=WEIGHTS):
    return weights[len(ids)]


def prior(text):
    return math.prod(WEIGHTS[place]["abc".index(letter)] for place, letter in enumerate(text))


def value(prompt, text):
    return round(
        sum((0.9, 0.1, -0.6)["abc".index(letter)] * (place + 1) for place, letter in enumerate(text)), 6
    )


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def check_law(method, reward, expected):
    """Answers come as often as the law says."""
    base = GuardConfig(
        threshold=Constant(target=0.4), exhaustion=Refuse(), refusal_text="refused", max_attempts=3
    )
    model = TabularModel(probabilities, ["a", "b", "c"])
    llm = StarsGuardedLLM(model, reward, method.guard(base, SAMPLING))
    texts = Counter(
        llm.generate("Well?", sampling=SAMPLING.changed(seed=seed)).text for seed in range(ANSWERS)
    )
    assert sum(expected.values()) == pytest.approx(1)
    possible = [text for text, share in expected.items() if share > 0]
    assert set(texts) <= set(possible)
    found = [texts[text] for text in possible]
    assert chisquare(found, [ANSWERS * expected[text] for text in possible]).pvalue > 1e-3


def test_whole_answers_are_the_first_that_passes_of_so_many():
    passing = [text for text in TEXTS if value("", text) >= 0.4]
    chance = sum(map(prior, passing))
    reached = sum((1 - chance) ** failed for failed in range(3))
    law = {text: prior(text) * reached for text in passing} | {"refused": (1 - chance) ** 3}
    check_law(WholeAnswer(), FunctionReward(value), law)


@pytest.mark.parametrize("n", [2, 4])
def test_the_best_of_n_is_the_highest_of_n_draws(n):
    def at_most(level):
        return sum(prior(text) for text in TEXTS if value("", text) <= level)

    def under(level):
        return sum(prior(text) for text in TEXTS if value("", text) < level)

    alike = Counter()
    for text in TEXTS:
        alike[value("", text)] += prior(text)
    law = {
        text: (at_most(level) ** n - under(level) ** n) * prior(text) / alike[level]
        for text in TEXTS
        for level in [value("", text)]
    }
    check_law(BestOfN(n=n), FunctionReward(value), law)


TABLES = {"judging": ((0.1, 0.6, 0.3), (0.5, 0.3, 0.2)), "proposing": WEIGHTS}


class Personas:
    """The judging persona has a table of its own."""

    def read(self, answers, last):
        return [[math.log(TABLES[key.split()[-1]][len(ids) - 1][ids[-1]])] for key, _, ids in answers]

    def forget(self, key):
        """Nothing is kept."""


def test_self_judgement_draws_from_what_both_personas_would_write():
    def tokens(place):
        both = [min(table[place][token] for table in TABLES.values()) for token in range(3)]
        return [share / sum(both) for share in both]

    law = {
        text: math.prod(tokens(place)["abc".index(letter)] for place, letter in enumerate(text))
        for text in TEXTS
    }
    check_law(SelfJudged(), SelfJudgement(Personas(), "a judge", 1), law)
