"""The laws of openings, as a retry and as a written refusal, enumerated and compared as in test_exactness."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.escalation import TemperatureLadder
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.rules import Constant, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.testing import TabularModel
from stars_guard.types import StopReason
from tests.loop.test_exactness import (
    ERROR_RATE,
    MAX_TOKENS,
    VOCABULARY,
    acceptance,
    answer_all,
    distribution,
    guard,
    p_value,
    stopping,
)

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

EOS = len(VOCABULARY)
MODEL = TabularModel(distribution, (*VOCABULARY, ""), eos=EOS)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


@pytest.fixture(autouse=True)
def _without_paragraphs(monkeypatch):
    """The vocabulary has no line break."""
    monkeypatch.setattr("stars_guard.loop.openings.PARAGRAPH", "")


def ids_of(text):
    return tuple(map(VOCABULARY.index, text))


def after_opening(prefix, longest, opening=""):
    """{segment: probability}: the opening, but for room for one token, then what the model draws."""
    room = min(longest, MAX_TOKENS - len(prefix))
    begun = ids_of(opening)[: room - 1]
    law = {}

    def extend(ids, mass):
        for token, probability in enumerate(distribution(prefix + ids)):
            longer = (*ids, token)
            if token == EOS or len(longer) == room:
                law[longer] = mass * probability
            else:
                extend(longer, mass * probability)

    extend(begun, 1.0)
    assert sum(law.values()) == pytest.approx(1)
    return law


def segment_law(config, prefix, number, openings):
    """{segment: probability} and the chance that all fail; attempt ``j`` draws after ``openings[j]``."""
    law, failed = Counter(), 1.0
    for opening in openings:
        pi = after_opening(prefix, config.segments.max_tokens, opening)
        for segment, mass in pi.items():
            law[segment] += failed * mass * acceptance(config, prefix, number, segment)
        failed *= 1 - sum(mass * acceptance(config, prefix, number, one) for one, mass in pi.items())
    return law, failed


def answer_law(config, openings, prefix=(), number=1, refusing=False):
    """{(ids, stop reason): probability}; a refusal is written where the exhaustion policy says so."""
    law, failed = segment_law(config, prefix, number, openings)
    ends = Counter()
    _add(ends, config, openings, prefix, number, law, refusing)
    policy = config.exhaustion
    if refusing or not isinstance(policy, WriteRefusal):
        ends[prefix, StopReason.REFUSED] += failed
        return ends
    turns = [policy.openings[j % len(policy.openings)] for j in range(policy.attempts)]
    written, unwritten = segment_law(config, prefix, number, turns)
    ends[prefix, StopReason.REFUSED] += failed * unwritten
    scaled = {segment: failed * mass for segment, mass in written.items()}
    _add(ends, config, openings, prefix, number, scaled, True)
    return ends


def _add(ends, config, openings, prefix, number, law, refusing):
    for segment, mass in law.items():
        reason = stopping(prefix, segment)
        if reason is not None:
            ends[prefix + segment, StopReason.REFUSED if refusing else reason] += mass
        elif mass:
            after = answer_law(config, openings, prefix + segment, number + 1, refusing)
            for end, share in after.items():
                ends[end] += mass * share


STRICT = {
    "threshold": Constant(target=1.1),
    "acceptance": Soft(beta=0.5),
    "max_attempts": 5,
    "segments": FixedLength(max_tokens=3),
}
NONE = ("",) * 5
LAWS = {
    "openings in turn": (
        {"escalation": (RefusalOpening(after=2, openings=("b", "a.")),), "exhaustion": Refuse()},
        ("", "", "b", "a.", "b"),
    ),
    "one opening, cut by the room": (
        {"escalation": (RefusalOpening(after=1, openings=("b.a.",)),), "exhaustion": Refuse()},
        ("", *("b.a.",) * 4),
    ),
    "written refusal": (
        {"exhaustion": WriteRefusal(openings=("a", ".b"), attempts=3), "max_attempts": 2},
        ("", ""),
    ),
    "openings, then a written refusal": (
        {
            "escalation": (RefusalOpening(after=1, openings=("b",)),),
            "exhaustion": WriteRefusal(openings=("a",), attempts=2),
            "max_attempts": 2,
        },
        ("", "b"),
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_answers_follow_the_enumerated_law(name):
    changes, openings = LAWS[name]
    config = guard(**{**STRICT, **changes})
    seen = [one.whole for one in answer_all(config, 1500, MODEL)]
    assert p_value(seen, answer_law(config, openings)) > ERROR_RATE
    plain = config.changed(escalation=(), exhaustion=Refuse())
    without = answer_law(plain, ("",) * config.max_attempts)
    assert any(not without.get(one) for one in seen) or p_value(seen, without) < ERROR_RATE


def test_candidates_drawn_at_once_give_the_very_same_answers():
    policies = (TemperatureLadder(after=1), RefusalOpening(after=2, openings=("b", "a.")))
    config = guard(**STRICT, escalation=policies, exhaustion=WriteRefusal(openings=("a",)))

    def decided(candidates):
        several = config.changed(drawing=Fixed(candidates=candidates))
        return [(one.whole, one.draws) for one in answer_all(several, 200, MODEL)]

    assert decided(1) == decided(2) == decided(8)
