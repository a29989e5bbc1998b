"""The law near temperature 0: the first attempt as asked, the others at the temperature of retries."""

from __future__ import annotations

import logging
import math
from collections import Counter
from functools import cache

import pytest

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.escalation import Backtrack, TemperatureLadder
from stars_guard.algorithm.rules import Best, Constant, Hard, Last, LinearInTokens, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.testing import TabularModel
from stars_guard.types import StopReason
from tests.loop import test_exactness as exactness
from tests.loop.test_exactness import (
    EOS,
    ERROR_RATE,
    KEY,
    MODEL,
    REFUSED,
    UNCAPPED,
    VOCABULARY,
    acceptance,
    answer_all,
    guard,
    p_value,
    stopping,
    value,
)
from tests.loop.test_exactness_escalation import mixed_answer_law, mixed_law, segments_of

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

ANSWERS = 1500
RETRY = 1.25
STRICT = {"threshold": Constant(target=1.1), "acceptance": Soft(beta=0.5), "max_attempts": 5}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def greedy(ids):
    shares = exactness.distribution(ids)
    return [float(place == shares.index(max(shares))) for place in range(len(shares))]


def warm(ids, temperature=RETRY):
    """The table, which is that of temperature 1 where the answer's is 0, at the temperature of retries."""
    weights = [share ** (1 / temperature) for share in exactness.distribution(ids)]
    return [weight / sum(weights) for weight in weights]


def config_of(**changes):
    return guard(**{"retry_temperature": RETRY, "floor": -9.0, **STRICT, **changes})


def answers_of(config, model=MODEL, key=None):
    return [answer.whole for answer in answer_all(config, ANSWERS, model, key=key, temperature=0.0)]


def of_attempts(config, first=greedy, later=warm):
    return (first, *[later] * (config.max_attempts - 1))


CONFIGS = {
    "refuse": config_of(exhaustion=Refuse()),
    "last": config_of(exhaustion=Last()),
    "one attempt": config_of(max_attempts=1, exhaustion=Last()),
    "hard": config_of(acceptance=Hard(), threshold=Constant(target=0.4)),
    "ramp": config_of(threshold=LinearInTokens(target=1.2, alpha=0, horizon=4), floor=-0.4),
    "many at once": config_of(drawing=Fixed(candidates=8)),
    "adapting": config_of(drawing=Adaptive(row_cost=0.05)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_at_temperature_0_follow_the_enumerated_law(name):
    config = CONFIGS[name]
    law = mixed_answer_law(config, of_attempts(config))
    if name == "one attempt":
        assert set(answers_of(config)) == {whole for whole, mass in law.items() if mass}
    else:
        assert p_value(answers_of(config), law) > ERROR_RATE


def test_keyed_draws_follow_the_same_law():
    config = CONFIGS["refuse"]
    assert p_value(answers_of(config, key=KEY), mixed_answer_law(config, of_attempts(config))) > ERROR_RATE


def test_without_a_limit_it_is_the_greedy_candidate_or_the_tilt_of_the_retries():
    config = config_of(max_attempts=UNCAPPED)
    ((first, _),) = [(ids, mass) for ids, mass in segments_of(greedy, (), 2).items() if mass]
    kept = acceptance(config, (), 1, first)
    pi = segments_of(warm, (), 2)
    tilted = {ids: mass * math.exp(min(value(exactness.text_of(ids)), 1.1) / 0.5) for ids, mass in pi.items()}
    law = {ids: (1 - kept) * mass / sum(tilted.values()) for ids, mass in tilted.items()}
    law[first] += kept
    assert 0.01 < kept < 0.99
    seen = [answer.first for answer in answer_all(config, ANSWERS, temperature=0.0)]
    assert p_value(seen, law) > ERROR_RATE


def test_a_ladder_rises_from_the_temperature_of_retries():
    ladder = TemperatureLadder(after=2, step=9.0, every=9, highest=99.0)
    config = config_of(retry_temperature=0.5, exhaustion=Last(), escalation=(ladder,))

    def cool(ids):
        return warm(ids, 0.5)

    def hot(ids):
        return warm(ids, 9.5)

    law = mixed_answer_law(config, (greedy, cool, hot, hot, hot))
    assert p_value(answers_of(config), law) > ERROR_RATE
    assert p_value(answers_of(config), mixed_answer_law(config, of_attempts(config, later=cool))) < ERROR_RATE


def going_back_law(config, *, first_anew):
    """The law with one segment held back, and one way back; there, the first attempt is ``first_anew``."""

    @cache
    def follow(kept, held, left, first):
        prefix, number = sum(kept, ()), len(kept) + 1
        law = Counter()
        for segment, mass in mixed_law(config, prefix, number, of_attempts(config, first)).items():
            if segment == REFUSED and held:
                law.update(scaled(follow(kept[:-1], 0, left - 1, first_anew), mass))
            elif segment == REFUSED:
                law[prefix, StopReason.REFUSED] += mass
            elif (reason := stopping(prefix, segment)) is not None:
                law[prefix + segment, reason] += mass
            else:
                law.update(scaled(follow((*kept, segment), int(left > 0), left, greedy), mass))
        return law

    return follow((), 0, 1, greedy)


def scaled(law, mass):
    return {outcome: mass * share for outcome, share in law.items()}


def test_where_the_answer_goes_back_to_no_attempt_is_greedy():
    short = {"threshold": Constant(target=0.8), "segments": FixedLength(max_tokens=1)}
    config = config_of(max_attempts=2, escalation=(Backtrack(most=1),), **short)
    seen = answers_of(config)
    assert p_value(seen, going_back_law(config, first_anew=warm)) > ERROR_RATE
    with pytest.raises(AssertionError):  # what cannot come without it was drawn
        assert p_value(seen, going_back_law(config, first_anew=greedy)) > ERROR_RATE


def test_candidates_drawn_at_once_give_the_very_same_answers():
    def decided(candidates):
        config = config_of(drawing=Fixed(candidates=candidates), escalation=(Backtrack(),))
        return [(answer.whole, answer.draws) for answer in answer_all(config, 200, temperature=0.0)]

    assert decided(1) == decided(2) == decided(8)


# Teeth: what looks alike and is not.


class GreedyFor(TabularModel):
    """Draws greedily for so many attempts, whatever the orders say; 0: never."""

    def __init__(self, attempts):
        super().__init__(exactness.distribution, (*VOCABULARY, ""), eos=EOS)
        self._attempts = attempts

    def _candidate(self, order, session, attempt, ids):
        wrong = None if attempt < self._attempts else RETRY
        return super()._candidate(order_at(order, wrong), session, attempt, ids)


def order_at(order, temperature):
    return type(order)(
        **{name: getattr(order, name) for name in order.__slots__} | {"temperature": temperature}
    )


class RoundsBeginGreedy(TabularModel):
    """Draws the first candidate of every round greedily."""

    def _candidate(self, order, session, attempt, ids):
        begins = attempt == order.first_attempt
        return super()._candidate(order_at(order, None if begins else RETRY), session, attempt, ids)


WRONG = {
    "never greedy": GreedyFor(0),
    "greedy twice": GreedyFor(2),
    "always greedy": GreedyFor(99),
    "greedy in each round": RoundsBeginGreedy(exactness.distribution, (*VOCABULARY, ""), eos=EOS),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ways_to_retry_are_rejected(name):
    config = CONFIGS["last"]
    assert (
        p_value(answers_of(config, WRONG[name]), mixed_answer_law(config, of_attempts(config))) < ERROR_RATE
    )


@pytest.mark.parametrize(
    "other",
    [{"retry_temperature": 0.5}, {"max_attempts": 2}, {"exhaustion": Best()}, {"floor": 0.3}],
    ids=repr,
)
def test_the_law_of_other_settings_is_rejected(other):
    config = CONFIGS["last"]
    changed = config.changed(**other)
    seen = answers_of(changed)
    with pytest.raises(AssertionError):  # or something that this law has no place for was drawn
        assert p_value(seen, mixed_answer_law(config, of_attempts(config))) > ERROR_RATE
