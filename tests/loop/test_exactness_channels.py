"""The law with channels: each candidate is accepted with the lowest of its channels' probabilities.

Enumerated on a tiny model that writes reasoning and answer, and compared by chi-square as in test_exactness.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from itertools import pairwise

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import ChannelRules, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from stars_guard.testing import TabularModel
from stars_guard.text.dialects import HERMES
from stars_guard.types import Channel, Reward
from tests.loop.test_exactness import ERROR_RATE, p_value

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

VOCABULARY = ("a", "b", "<think>", "</think>", "")
EOS = 4
LONGEST = 4
WEIGHTS = ((3, 3, 3, 1, 1), (2, 3, 2, 3, 1), (3, 2, 1, 4, 1))
RULES = {
    Channel.ANSWER: ChannelRules(threshold=Constant(target=2.0), acceptance=Soft(beta=1.5)),
    Channel.REASONING: ChannelRules(threshold=Constant(target=3.0), acceptance=Soft(beta=2.0)),
}


def distribution(ids):
    weights = WEIGHTS[(len(ids) + (ids[-1] if ids else 0)) % len(WEIGHTS)]
    return [weight / sum(weights) for weight in weights]


def value(channel, text):
    """Answers are rewarded for "a", reasoning for "b": each channel has a scale of its own."""
    sign = 1 if channel is Channel.ANSWER else -2
    return sign * (text.count("a") - text.count("b"))


class ByChannelTable:
    name = "table"

    def score(self, requests):
        return [Reward(float(value(request.channel, request.response))) for request in requests]

    def release(self, run_id):
        """Nothing is kept."""


def texts_of(ids):
    """What a candidate says in each channel, walked token by token; if nothing, the channel it ends in."""
    said, channel = {}, Channel.ANSWER
    for token in ids:
        word = VOCABULARY[token]
        if word == "<think>" and channel is Channel.ANSWER:
            channel = Channel.REASONING
        elif word == "</think>" and channel is Channel.REASONING:
            channel = Channel.ANSWER
        elif word:
            said[channel] = said.get(channel, "") + word
    return said or {channel: ""}


def proposals(prefix=(), mass=1.0):
    """{ids: probability} of every candidate of an answer that is one segment."""
    found = {}
    for token, share in enumerate(distribution(prefix)):
        ids = (*prefix, token)
        if token == EOS or len(ids) == LONGEST:
            found[ids] = mass * share
        else:
            found |= proposals(ids, mass * share)
    return found


def probabilities(ids, rules):
    return [
        rules[channel].acceptance.probability(value(channel, text), rules[channel].threshold.target)
        for channel, text in texts_of(ids).items()
    ]


def law_of(rules, combined=min):
    """pi(s) a(s) / Z, where a candidate's probability combines those of its channels."""
    tilted = {ids: mass * combined(probabilities(ids, rules)) for ids, mass in proposals().items()}
    total = sum(tilted.values())
    return Counter({ids: mass / total for ids, mass in tilted.items() if mass})


def answers(rules, count):
    config = GuardConfig(
        threshold=rules[Channel.ANSWER].threshold,
        acceptance=rules[Channel.ANSWER].acceptance,
        reasoning=rules[Channel.REASONING],
        segments=FixedLength(max_tokens=LONGEST),
        drawing=Fixed(candidates=3),
        max_attempts=10**6,
        exhaustion=Refuse(),
    )
    llm = StarsGuardedLLM(TabularModel(distribution, VOCABULARY, EOS, HERMES), ByChannelTable(), config)
    for start, end in pairwise(range(0, count + 1, 250)):
        sampling = [SamplingParams(seed=seed, max_tokens=LONGEST) for seed in range(start, end)]
        yield from llm.batch([Prompt.of("x")] * len(sampling), sampling=sampling)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


@pytest.mark.parametrize("second", [Soft(beta=2.0), Hard()], ids=["soft", "hard"])
def test_answers_follow_the_law_of_the_lowest_probability(second):
    rules = {**RULES, Channel.REASONING: RULES[Channel.REASONING].model_copy(update={"acceptance": second})}
    seen = [tuple(result.token_ids) for result in answers(rules, 2500)]
    assert p_value(seen, law_of(rules)) > ERROR_RATE


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [max, math.prod], ids=["the highest", "the product"])
def test_other_ways_to_combine_channels_are_told_apart(wrong):
    seen = [tuple(result.token_ids) for result in answers(RULES, 5000)]
    assert p_value(seen, law_of(RULES, wrong)) < ERROR_RATE
