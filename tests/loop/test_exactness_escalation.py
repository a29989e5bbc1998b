"""The laws that escalation policies state, enumerated on a tiny model and compared as in test_exactness."""

from __future__ import annotations

import logging
from collections import Counter
from functools import cache

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.escalation import Backtrack, SaferModel, SafetyHint, TemperatureLadder
from stars_guard.algorithm.rules import Best, Constant, Last, LinearInSegments, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.testing import TabularModel, fake_session
from stars_guard.types import StopReason
from tests.loop import test_exactness as exactness
from tests.loop.test_exactness import (
    EOS,
    ERROR_RATE,
    MAX_TOKENS,
    REFUSED,
    VOCABULARY,
    acceptance,
    answer_all,
    answer_law,
    guard,
    p_value,
    segment_law,
    stopping,
    text_of,
)

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

BASE = SamplingParams().temperature
HINT = "Be kind."


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def safer(ids):
    """Another model over the same vocabulary."""
    weights = ((1, 1, 5, 1), (5, 1, 1, 2))[len(ids) % 2]
    return [weight / sum(weights) for weight in weights]


SAFER = TabularModel(safer, (*VOCABULARY, ""), eos=EOS)


class Hinted(TabularModel):
    """A model that follows hints: with one in the prompt it is the safer one."""

    def propose(self, orders):
        hinted = [HINT in fake_session(order.session).prompt.as_text() for order in orders]
        drawn = {True: iter(SAFER.propose([order for order, yes in zip(orders, hinted, strict=True) if yes]))}
        usual = [order for order, yes in zip(orders, hinted, strict=True) if not yes]
        drawn[False] = iter(super().propose(usual))
        return [next(drawn[yes]) for yes in hinted]


FOLLOWS_HINTS = Hinted(exactness.distribution, (*VOCABULARY, ""), eos=EOS)


def tempered(temperature):
    def distribution(ids):
        weights = [one ** (BASE / temperature) for one in exactness.distribution(ids)]
        return [weight / sum(weights) for weight in weights]

    return distribution


def segments_of(distribution, prefix, longest):
    """{segment ids: probability} of the segments that a model proposes after ``prefix``."""
    found = {}

    def extend(ids, mass):
        for token, probability in enumerate(distribution(prefix + ids)):
            longer = (*ids, token)
            if token == EOS or len(longer) == longest or len(prefix + longer) == MAX_TOKENS:
                found[longer] = mass * probability
            else:
                extend(longer, mass * probability)

    extend((), 1.0)
    return found


def mixed_law(config, prefix, number, proposals):
    """{chosen segment or REFUSED: probability}; attempt ``j`` draws from ``proposals[j]``."""
    law, failed = Counter(), 1.0
    for distribution in proposals:
        pi = segments_of(distribution, prefix, config.segments.max_tokens)
        a = {one: acceptance(config, prefix, number, one) for one in pi}
        for one in pi:
            law[one] += failed * pi[one] * a[one]
        last = {one: failed * pi[one] * (1 - a[one]) for one in pi}
        failed = sum(last.values())
    for one, mass in last.items():
        law[one if isinstance(config.exhaustion, Last) else REFUSED] += mass
    assert sum(law.values()) == pytest.approx(1)
    return law


def mixed_answer_law(config, proposals, prefix=(), number=1):
    law = Counter()
    for segment, mass in mixed_law(config, prefix, number, proposals).items():
        if segment == REFUSED:
            law[prefix, StopReason.REFUSED] += mass
        elif (reason := stopping(prefix, segment)) is not None:
            law[prefix + segment, reason] += mass
        else:
            for end, share in mixed_answer_law(config, proposals, prefix + segment, number + 1).items():
                law[end] += mass * share
    return law


STRICT = {"threshold": Constant(target=1.1), "acceptance": Soft(beta=0.5), "max_attempts": 5}
LADDER = TemperatureLadder(after=1, step=0.8, every=2, highest=2.0)
USUAL, WARM, HOT = exactness.distribution, tempered(BASE + 0.8), tempered(2.0)
MIXED = {
    "ladder": ((LADDER,), (USUAL, WARM, WARM, HOT, HOT)),
    "hint": ((SafetyHint(after=2, text=HINT),), (USUAL, USUAL, safer, safer, safer)),
    "safer model": ((SaferModel(after=1),), (USUAL, safer, safer, safer, safer)),
    "ladder, then hint": ((SafetyHint(after=3, text=HINT), LADDER), (USUAL, WARM, WARM, safer, safer)),
}


@pytest.mark.parametrize("exhaustion", [Refuse(), Last()], ids=["refuse", "last"])
@pytest.mark.parametrize("name", MIXED)
def test_answers_follow_the_mixture_of_the_tilts(name, exhaustion):
    policies, proposals = MIXED[name]
    config = guard(**STRICT, exhaustion=exhaustion, floor=-9, escalation=policies)
    seen = [one.whole for one in answer_all(config, 1800, FOLLOWS_HINTS, SAFER)]
    assert p_value(seen, mixed_answer_law(config, proposals)) > ERROR_RATE
    assert p_value(seen, mixed_answer_law(config, (USUAL,) * 5)) < ERROR_RATE


def test_the_mixture_without_policies_is_the_law_of_the_rule():
    config = guard(**STRICT)
    assert mixed_answer_law(config, (USUAL,) * 5) == pytest.approx(answer_law(config))


def going_back_law(config, policy):
    """{(ids, stop reason): probability}, for segments of the configured length."""
    longest = config.segments.max_tokens

    def ends(segment):
        return len(segment) == longest

    # Whoever goes back comes to a place where another one has been: its law is computed once.
    @cache
    def follow(kept, held, left):
        prefix, number = sum(kept, ()), len(kept) + 1
        law = Counter()
        refusing = segment_law(config.changed(exhaustion=Refuse()), prefix, number, ends)
        fails = refusing.pop(REFUSED, 0.0)
        outcomes = refusing if held else segment_law(config, prefix, number, ends)
        for segment, mass in outcomes.items():
            if segment == REFUSED:
                law[prefix, StopReason.REFUSED] += mass
            elif (reason := stopping(prefix, segment)) is not None:
                law[prefix + segment, reason] += mass
            else:
                now = min(held + 1, policy.segments) if left else 0
                for end, share in follow((*kept, segment), now, left).items():
                    law[end] += mass * share
        if held:
            for end, share in follow(kept[:-held], 0, left - 1).items():
                law[end] += fails * share
        return law

    law = follow((), 0, policy.most)
    assert sum(law.values()) == pytest.approx(1)
    return law


TIGHT = {"acceptance": Soft(beta=0.4), "max_attempts": 2}
BACK = {
    "one segment": (Backtrack(most=1), {"threshold": Constant(target=1.0)}),
    "one segment, best": (
        Backtrack(most=3),
        {"threshold": Constant(target=1.0), "exhaustion": Best(floor=-0.3)},
    ),
    "two short segments, twice": (
        Backtrack(segments=2, most=2),
        {
            "threshold": LinearInSegments(target=1.4, alpha=0, segments=3),
            "segments": FixedLength(max_tokens=1),
        },
    ),
    "three short segments, last": (
        Backtrack(segments=3, most=2),
        {"threshold": Constant(target=0.8), "segments": FixedLength(max_tokens=1), "exhaustion": Last()},
    ),
}


@pytest.mark.parametrize("name", BACK)
def test_going_back_follows_the_enumerated_law(name):
    policy, parts = BACK[name]
    config = guard(**TIGHT, **parts, escalation=(policy,))
    seen = [one.whole for one in answer_all(config)]
    assert p_value(seen, going_back_law(config, policy)) > ERROR_RATE
    longest = config.segments.max_tokens
    assert p_value(seen, answer_law(config, lambda segment: len(segment) == longest)) < ERROR_RATE


def test_the_law_of_two_segments_is_the_one_that_the_docstring_states():
    policy, parts = BACK["one segment"]
    config = guard(**TIGHT, **parts, escalation=(policy,))

    def open_ended(segment):
        return segment != REFUSED and stopping((), segment) is None

    first = segment_law(config, (), 1, exactness.two_tokens)
    second = {s1: segment_law(config, s1, 2, exactness.two_tokens) for s1 in first if open_ended(s1)}
    again = sum(first[s1] * law[REFUSED] for s1, law in second.items())
    law = going_back_law(config, policy)
    for s1, after in second.items():
        for s2, mass in after.items():
            if s2 == REFUSED:
                assert law[s1, StopReason.REFUSED] == pytest.approx(again * first[s1] * mass)
            else:
                stated = first[s1] * mass + again * first[s1] * mass
                assert law[s1 + s2, stopping(s1, s2)] == pytest.approx(stated)


def test_going_back_makes_rejected_answers_rarer():
    policy, parts = BACK["one segment"]
    config = guard(**TIGHT, **parts)
    before, after = (
        sum(mass for (ids, reason), mass in law.items() if reason is StopReason.REFUSED and text_of(ids))
        for law in (answer_law(config), going_back_law(config, policy))
    )
    assert after < 0.8 * before


def test_candidates_drawn_at_once_give_the_very_same_answers():
    policies = (LADDER, SafetyHint(after=3, text=HINT), SaferModel(after=4), Backtrack(segments=2))
    config = guard(**STRICT, escalation=policies)

    def decided(candidates):
        several = config.changed(drawing=Fixed(candidates=candidates))
        results = answer_all(several, 200, FOLLOWS_HINTS, SAFER)
        return [(one.whole, one.draws) for one in results]

    assert decided(1) == decided(2) == decided(8)
