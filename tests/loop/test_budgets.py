"""Budgets are kept to the call, whatever fails, is tried again, is drawn ahead or shares a batch."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.algorithm.rules import LinearInTokens, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.testing import ScriptedModel, SelfBatchingModel, TabularModel
from stars_guard.text.dialects import HERMES
from stars_guard.types import Reward, StopReason
from tests.support.guards import guarded, hard

AB = TabularModel(lambda ids: [0.5, 0.45, 0.05], ["a", "b", ""], eos=2)


class Flaky:
    """A model that counts tokens by prompt, and a reward that counts texts; both fail at times."""

    name = "flaky"

    def __init__(self, seed, rate):
        self.random, self.rate = random.Random(seed), rate
        self.drawn, self.scored = Counter(), Counter()

    def _maybe_fail(self):
        if self.random.random() < self.rate:
            raise OSError("for a moment")

    def start(self, prompt, sampling):
        return AB.start(prompt, sampling)

    def propose(self, orders):
        proposals = []
        for order in orders:
            self._maybe_fail()
            proposals += AB.propose([order])
            self.drawn[order.session.prompt.as_text()] += proposals[-1].tokens
        return proposals

    def score(self, requests):
        self.scored.update(request.prompt.as_text() for request in requests)
        self._maybe_fail()
        return [Reward(0.6 if request.response.endswith("b") else 0.2) for request in requests]

    def release(self, run_id):
        """Nothing is kept."""


class FlakyEngine(Flaky):
    """The same behind an engine of its own."""

    has_room = True

    def ahead(self, session, candidate):
        return SelfBatchingModel(AB).ahead(session, candidate)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([Flaky, FlakyEngine]),
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([0.0, 0.1, 0.4]),
    budgets=st.lists(
        st.builds(
            Budget,
            max_proposed_tokens=st.none() | st.integers(1, 40),
            max_reward_calls=st.none() | st.integers(1, 20),
        ),
        min_size=1,
        max_size=5,
    ),
    candidates=st.integers(1, 4),
)
def test_no_budget_is_passed_by_what_is_tried_again(kind, seed, rate, budgets, candidates):
    flaky = kind(seed, rate)
    config = hard(
        threshold=LinearInTokens(target=0.5),
        acceptance=Soft(beta=0.2),
        segments=FixedLength(max_tokens=3),
        drawing=Fixed(candidates=candidates),
        on_error="stop",
    )
    guard = guarded(flaky, flaky, config)
    sampling = SamplingParams(max_tokens=9, seed=seed)
    names = [f"prompt {number}" for number in range(len(budgets))]
    streams = [
        guard.stream(name, budget=budget, sampling=sampling)
        for name, budget in zip(names, budgets, strict=True)
    ]
    for name, budget, stream in zip(names, budgets, streams, strict=True):
        usage = stream.read().usage
        assert flaky.scored[f"user: {name}"] + flaky.scored[name] <= (budget.max_reward_calls or math.inf)
        assert usage.reward_calls == flaky.scored[f"user: {name}"] + flaky.scored[name]
        assert flaky.drawn[f"user: {name}"] + flaky.drawn[name] <= (budget.max_proposed_tokens or math.inf)


class Accuses:
    """Fails for the prompt of a culprit; counts texts by prompt."""

    name = "accuses"

    def __init__(self):
        self.texts = Counter()

    def score(self, requests):
        self.texts.update(request.prompt.as_text() for request in requests)
        if any("culprit" in request.prompt.as_text() for request in requests):
            raise OSError("down")
        return [Reward(1.0) for _ in requests]

    def release(self, run_id):
        """Nothing is kept."""


@pytest.mark.parametrize("wrap", [lambda model: model, SelfBatchingModel])
def test_a_text_that_is_asked_for_again_is_paid_again(wrap):
    reward = Accuses()
    guard = guarded(wrap(ScriptedModel([["one "], ["two"]])), reward, hard(on_error="stop"))
    poor, rich = Budget(max_reward_calls=2), Budget(max_reward_calls=100)
    prompts = {"poor": poor, "culprit": rich, "rich": rich}
    results = dict(
        zip(
            prompts,
            [
                stream.read()
                for stream in [guard.stream(prompt, budget=budget) for prompt, budget in prompts.items()]
            ],
            strict=True,
        )
    )
    assert results["culprit"].stop_reason is StopReason.SCORING_ERROR
    assert results["rich"].text == "one two"
    assert results["poor"].usage.reward_calls <= 2
    assert sum(reward.texts.values()) == sum(result.usage.reward_calls for result in results.values())


def test_who_cannot_pay_for_another_try_ends_by_its_budget():
    reward = Accuses()
    guard = guarded(ScriptedModel([["one "], ["two"]]), reward, hard(on_error="stop"))
    streams = [guard.stream("poor", budget=Budget(max_reward_calls=1)), guard.stream("culprit")]
    assert streams[0].read().stop_reason is StopReason.REWARD_BUDGET
    assert streams[1].read().stop_reason is StopReason.SCORING_ERROR


def test_bare_prompts_of_several_channels_are_not_asked_for_without_pay():
    reward = Accuses()
    model = ScriptedModel([["fine"]], HERMES)
    guard = guarded(model, reward, hard(threshold=LinearInTokens(target=0.5), acceptance=Soft(beta=0.2)))
    result = guard.generate("x", budget=Budget(max_reward_calls=1))
    assert result.stop_reason is StopReason.REWARD_BUDGET
    assert sum(reward.texts.values()) <= 1


def test_tokens_of_a_call_that_failed_count_though_nobody_knows_them():
    class Once(ScriptedModel):
        calls = 0

        def propose(self, orders):
            self.calls += 1
            if self.calls == 1:
                raise OSError("after it drew")
            return super().propose(orders)

    config = hard(segments=FixedLength(max_tokens=10), drawing=Fixed(candidates=1), on_error="stop")
    for most, reason in ((19, StopReason.TOKEN_BUDGET), (20, StopReason.EOS)):
        guard = guarded(Once([["ten tokens"]]), None, config)
        streams = [
            guard.stream(prompt, budget=Budget(max_proposed_tokens=most)) for prompt in ("one", "other")
        ]
        for stream in streams:
            result = stream.read()
            assert result.stop_reason is reason
            assert result.usage.proposed_tokens in (0, 10)
