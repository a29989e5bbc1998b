"""The law where segments are given up early: accepted ones follow the tilt, exhaustion decides more often."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cache

import pytest

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.patience import PosteriorPatience
from stars_guard.algorithm.rules import Constant, Hard, Last, LinearInTokens, Refuse, Soft
from stars_guard.algorithm.run import Run
from stars_guard.loop import request
from stars_guard.types import StopReason
from tests.loop.test_exactness import (
    ERROR_RATE,
    KEY,
    REFUSED,
    acceptance,
    answer_all,
    answer_law,
    guard,
    p_value,
    proposals,
    stopping,
    two_tokens,
)
from tests.support.urn import all_rejected

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

ANSWERS = 1500
PATIENCE = PosteriorPatience(at_least=1, chance=0.5, prior_weight=0.4)
STRICT = {"threshold": Constant(target=1.1), "acceptance": Soft(beta=0.5), "max_attempts": 4}


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def config_of(**changes):
    return guard(**{"patience": PATIENCE, "floor": -9.0, **STRICT, **changes})


def gives_up(config, rejected):
    """The criterion as docs/bar.md states it, by the urn."""
    policy, left = config.patience, config.max_attempts - len(rejected)
    chance = 1 - all_rejected(rejected, left, policy.prior_weight)
    return len(rejected) >= policy.at_least and chance < policy.chance


def never(config, rejected):
    """Patience that is fixed."""
    return False


@cache
def patient_law(config, prefix, number, stops=gives_up):
    """{chosen segment or REFUSED: probability}, over everything that may be rejected before."""
    pi = proposals(prefix, two_tokens)
    a = {segment: acceptance(config, prefix, number, segment) for segment in pi}
    rejected = {segment: pi[segment] * (1 - a[segment]) for segment in pi if a[segment] < 1}
    alike = Counter()
    for segment, mass in rejected.items():
        alike[a[segment]] += mass
    law, exhausted, drawing = Counter(), Counter(), Counter({(): 1.0})
    for judged in range(1, config.max_attempts + 1):
        for segment in pi:
            law[segment] += drawing.total() * pi[segment] * a[segment]
        drawn_on = Counter()
        for seen, mass in drawing.items():
            for probability, share in alike.items():
                now = tuple(sorted((*seen, probability)))
                if judged == config.max_attempts or stops(config, now):
                    exhausted[probability] += mass * share
                else:
                    drawn_on[now] += mass * share
        drawing = drawn_on
    for segment, mass in rejected.items():
        forced = segment if isinstance(config.exhaustion, Last) else REFUSED
        law[forced] += exhausted[a[segment]] * mass / alike[a[segment]]
    assert sum(law.values()) == pytest.approx(1)
    return law


def patient_answer_law(config, prefix=(), number=1):
    law = Counter()
    for segment, mass in patient_law(config, prefix, number).items():
        if segment == REFUSED:
            law[prefix, StopReason.REFUSED] += mass
        elif (reason := stopping(prefix, segment)) is not None:
            law[prefix + segment, reason] += mass
        else:
            for end, share in patient_answer_law(config, prefix + segment, number + 1).items():
                law[end] += mass * share
    return law


CONFIGS = {
    "refuse": config_of(exhaustion=Refuse()),
    "last": config_of(exhaustion=Last()),
    "soon": config_of(patience=PosteriorPatience(at_least=1, chance=0.9), exhaustion=Refuse()),
    "later": config_of(patience=PosteriorPatience(at_least=3, chance=0.4), exhaustion=Last()),
    "hard": config_of(acceptance=Hard(), threshold=Constant(target=0.4), exhaustion=Refuse()),
    "ramp": config_of(threshold=LinearInTokens(target=1.2, alpha=0, horizon=4), floor=-0.4),
    "many at once": config_of(drawing=Fixed(candidates=8)),
    "adapting": config_of(drawing=Adaptive(row_cost=0.05), exhaustion=Last()),
    "few tokens": config_of(drawing=Adaptive(row_cost="tokens"), exhaustion=Last()),
    "few rounds": config_of(drawing=Adaptive(row_cost="time", prior_rate=0.2), exhaustion=Last()),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_follow_the_enumerated_law(name):
    config = CONFIGS[name]
    seen = [answer.whole for answer in answer_all(config, ANSWERS)]
    assert p_value(seen, patient_answer_law(config)) > ERROR_RATE


def test_keyed_draws_follow_the_same_law():
    config = CONFIGS["last"]
    seen = [answer.whole for answer in answer_all(config, ANSWERS, key=KEY)]
    assert p_value(seen, patient_answer_law(config)) > ERROR_RATE


def tilt(config):
    """The law of a first segment that was accepted, with any number of attempts."""
    pi = proposals((), two_tokens)
    weights = {segment: mass * acceptance(config, (), 1, segment) for segment, mass in pi.items()}
    return {segment: weight / sum(weights.values()) for segment, weight in weights.items()}


@pytest.mark.parametrize("name", ["refuse", "soon", "many at once"])
def test_given_that_it_is_accepted_a_segment_follows_the_tilt(name):
    config = CONFIGS[name]
    law = patient_law(config, (), 1)
    accepted = {segment: mass / (1 - law[REFUSED]) for segment, mass in law.items() if segment != REFUSED}
    assert accepted == pytest.approx(tilt(config))
    seen = [answer.first for answer in answer_all(config, ANSWERS) if answer.first != REFUSED]
    assert p_value(seen, tilt(config)) > ERROR_RATE


def test_exhaustion_decides_more_often_and_fewer_attempts_are_made():
    patient = CONFIGS["refuse"]
    fixed = patient.changed(patience="fixed")
    assert patient_law(patient, (), 1)[REFUSED] > 1.2 * patient_law(fixed, (), 1, never)[REFUSED]

    def attempts(config):
        return sum(len(draws) for answer in answer_all(config, 300) for draws in answer.draws[:1])

    assert attempts(patient) < 0.9 * attempts(fixed)


def test_candidates_drawn_at_once_give_the_very_same_answers():
    def decided(drawing):
        config = config_of(drawing=drawing, exhaustion=Last())
        return [(answer.whole, answer.draws) for answer in answer_all(config, 300)]

    alone = decided(1)
    for drawing in (2, 3, 8, Adaptive(row_cost="tokens"), Adaptive(row_cost="time", prior_rate=0.2)):
        assert decided(drawing) == alone


# Teeth: what looks alike and is not.


class Hasty(Run):
    """Gives up by the probability of a candidate that it has yet to judge."""

    def _judged(self, candidate, reward, channel):
        attempt = super()._judged(candidate, reward, channel)
        seen = [*(each.probability for each in self.segment.attempts), attempt.probability]
        hopeless = self.config.patience.gives_up(seen, self.attempts_left - 1)
        return attempt.model_copy(update={"accepted": attempt.accepted and not hopeless})


class AtRoundsEnd(Run):
    """Gives up between rounds only, so that the number of candidates in one changes the law."""

    def _gives_up(self):
        return len(self.segment.attempts) % self.plan.candidates == 0 and super()._gives_up()


class Counting(Run):
    """Counts rejections, and takes no notice of how near they were."""

    def _gives_up(self):
        attempts = self.segment.attempts
        return self.config.patience.gives_up([0.0] * len(attempts), self.attempts_left)


WRONG = {
    "hasty": (Hasty, Refuse()),  # policy `last` would show the very candidate that it gave up at
    "at the end of rounds": (AtRoundsEnd, Refuse()),
    "at the end of rounds, last": (AtRoundsEnd, Last()),
    "counting": (Counting, Refuse()),
    "counting, last": (Counting, Last()),
}


def wrong_answers(monkeypatch, run, config):
    monkeypatch.setattr(request, "Run", run)
    return answer_all.__wrapped__(config, ANSWERS)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ways_to_give_up_are_rejected(monkeypatch, name):
    run, exhaustion = WRONG[name]
    config = config_of(exhaustion=exhaustion, drawing=Fixed(candidates=3))
    seen = wrong_answers(monkeypatch, run, config)
    assert p_value([answer.whole for answer in seen], patient_answer_law(config)) < ERROR_RATE


def test_a_hasty_guard_breaks_the_law_of_what_it_accepts(monkeypatch):
    config = CONFIGS["refuse"]
    seen = [answer.first for answer in wrong_answers(monkeypatch, Hasty, config)]
    assert p_value([first for first in seen if first != REFUSED], tilt(config)) < ERROR_RATE


@pytest.mark.parametrize("name", ["refuse", "last", "soon"])
def test_the_law_without_patience_is_rejected(name):
    config = CONFIGS[name]
    seen = [answer.whole for answer in answer_all(config, ANSWERS)]
    assert p_value(seen, answer_law(config.changed(patience="fixed"))) < ERROR_RATE
