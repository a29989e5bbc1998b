"""Shadow mode: the text is the unguarded one, seed for seed; what it rejects is what a guard rejects."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from scipy.stats import chisquare

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, TemperatureLadder
from stars_guard.algorithm.rules import (
    Constant,
    Hard,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Watch,
)
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.algorithm.trace import Verdict
from stars_guard.errors import GenerationError, NoAcceptableSegment, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.calibrated import CalibratedConfig
from stars_guard.loop.events import Request
from stars_guard.models.base import Order
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest, WrappedReward, hidden_state_readers
from stars_guard.rewards.corrected import CorrectedReward
from stars_guard.shadow import (
    OUTAGE,
    ShadowReward,
    expected_extra_tokens,
    judged,
    rejections,
    shadowed,
    shadowed_request,
    unjudged,
)
from stars_guard.testing import FailingReward, KeywordReward, SelfBatchingModel, TabularModel
from stars_guard.types import Reward
from tests.rewards.test_corrected import CORRECTION
from tests.support.observed import BrokenModel

VOCABULARY = ("a", "b", ".", "")
WEIGHTS = ((4, 2, 2, 1), (1, 3, 2, 1), (3, 1, 1, 2), (2, 2, 3, 1))
SEEDS = range(60)
FLAGGED = 9
"""A seed whose answer has rejections."""
MAX_TOKENS = 6
PROMPT = Prompt.of("Hi")


def distribution(ids):
    """Next-token probabilities: they depend on the last token and on the length."""
    weights = WEIGHTS[(2 * len(ids) + (ids[-1] if ids else 0)) % len(WEIGHTS)]
    return [weight / sum(weights) for weight in weights]


MODEL = TabularModel(distribution, VOCABULARY, eos=3)


class Tabled:
    """A reward that depends on every character and its place."""

    name = "tabled"

    def score(self, requests):
        return [Reward(self.value(request.response)) for request in requests]

    def value(self, text):
        return sum({"a": 0.9, "b": -0.8, ".": 0.1}[one] * (-1) ** place for place, one in enumerate(text))

    def release(self, run_id):
        """Nothing is kept."""


CONFIGS = {
    "hard": GuardConfig(threshold=Constant(target=0.5), acceptance=Hard(), exhaustion=Refuse()),
    "soft": GuardConfig(threshold=Constant(target=1.5), acceptance=Soft(beta=0.8), max_attempts=50),
    "ramp": GuardConfig(threshold=LinearInTokens(target=1.5, alpha=0.2), acceptance=Soft(beta=0.5)),
    "several at once": GuardConfig(threshold=Constant(target=1.0), drawing=Fixed(candidates=4)),
    "slack": GuardConfig(threshold=Constant(target=1.0), drawing=Adaptive(slack=1.0, target_rate=0.9)),
    "escalating": GuardConfig(
        threshold=Constant(target=1.0),
        escalation=(TemperatureLadder(after=1), Backtrack()),
        exhaustion=Raise(),
    ),
}
TWO = FixedLength(max_tokens=2)
CONFIGS = {name: config.changed(segments=TWO) for name, config in CONFIGS.items()}
CONFIGS["boundaries"] = CONFIGS["soft"].changed(segments=Boundary(min_tokens=1, max_tokens=3))
CONFIGS["lengths that adapt"] = CONFIGS["soft"].changed(drawing=Adaptive(segment_tokens=(1, 3)))


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def unguarded(seed, cut):
    """What the language model alone writes: each segment drawn once, and kept."""
    session = MODEL.start(PROMPT, SamplingParams(seed=seed))
    for segment in range(MAX_TOKENS):
        room = MAX_TOKENS - len(session.token_ids)
        longest = min(cut.max_tokens, room)
        part = cut.model_copy(update={"max_tokens": longest})
        (proposal,) = MODEL.propose([Order(session, segment, 0, 1, part, room <= longest, lambda: True)])
        session.accept(proposal.candidates[0])
        if proposal.candidates[0].finish:
            break
    return session.text


def asked(config, seed, **budget):
    return Request(PROMPT, SamplingParams(seed=seed, max_tokens=MAX_TOKENS), config, Budget(**budget))


def answer(llm, request):
    return llm.generate(
        request.prompt, sampling=request.sampling, config=request.config, budget=request.budget
    )


@pytest.fixture(params=[MODEL, SelfBatchingModel(MODEL)], ids=["rounds", "lanes"])
def llm(request):
    return StarsGuardedLLM(request.param, ShadowReward(Tabled()), CONFIGS["hard"])


@pytest.mark.parametrize("name", [one for one in CONFIGS if one != "lengths that adapt"])
def test_the_text_is_the_unguarded_one_for_every_seed(llm, name):
    config = CONFIGS[name]
    texts = [answer(llm, shadowed_request(asked(config, seed))).text for seed in SEEDS]
    assert texts == [unguarded(seed, config.segments) for seed in SEEDS]
    assert len(set(texts)) > 20


def test_where_lengths_adapt_the_law_is_that_of_the_language_model_all_the_same(llm):
    config = CONFIGS["lengths that adapt"]

    def written(seed):
        request = shadowed_request(asked(config, seed))
        return tuple(answer(llm, request).token_ids[:2])

    seeds = range(600)
    seen = Counter(map(written, seeds))
    law = {(3,): distribution(())[3]}
    for first in range(3):
        for second, chance in enumerate(distribution((first,))):
            law[first, second] = distribution(())[first] * chance
    assert set(seen) == set(law)
    assert chisquare([seen[one] for one in law], [law[one] * len(seeds) for one in law]).pvalue > 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_the_first_rejection_is_the_one_that_a_guard_meets(llm, name):
    config = CONFIGS[name]
    met = 0
    for seed in SEEDS:
        watched = answer(llm, shadowed_request(asked(config, seed)))
        trace = guarded_trace(llm, asked(config, seed))
        first = next((one for one in trace.segments if one.attempts and not one.attempts[0].accepted), None)
        found = rejections(watched.trace)
        assert (first is None) == (not found)
        if first is None:
            assert watched.token_ids == trace_tokens(llm, config, seed)
            continue
        met += 1
        attempt = first.attempts[0]
        assert (found[0].segment, found[0].reward) == (first.index, attempt.reward)
        assert (found[0].threshold, found[0].probability) == (attempt.threshold, attempt.probability)
        for ours, theirs in zip(watched.trace.segments, trace.segments[: first.index], strict=False):
            assert ours.attempts == theirs.attempts
    assert met > 20


def guarded_trace(llm, request):
    try:
        return answer(llm, request).trace
    except NoAcceptableSegment as error:
        return error.trace


def trace_tokens(llm, config, seed):
    return answer(llm, asked(config, seed)).token_ids


def test_rejections_say_what_where_and_how_bad(llm):
    watched = answer(llm, shadowed_request(asked(CONFIGS["hard"], FLAGGED)))
    found = rejections(watched.trace)
    assert found
    for one in found:
        assert one.reward < one.threshold == 0.5
        assert one.probability == 0
        assert 0 < one.end - one.start <= one.tokens
        assert Tabled().value(watched.text[: one.end]) == one.reward
    forced = [one.index for one in watched.trace.segments if one.verdict is Verdict.FORCED]
    assert [one.segment for one in found] == forced


def test_a_budget_of_judgements_does_not_end_an_answer(llm):
    requests = [asked(CONFIGS["hard"], seed, max_reward_calls=1) for seed in range(20)]
    texts = [answer(llm, shadowed_request(request)).text for request in requests]
    assert texts == [unguarded(seed, TWO) for seed in range(20)]


def test_settings_that_were_calibrated_stay_so():
    config = CalibratedConfig(threshold=Constant(target=1.0), max_attempts=9)
    watched = shadowed(config)
    assert isinstance(watched, CalibratedConfig)
    assert watched == config.changed(max_attempts=1, exhaustion=Watch())


def test_an_answer_that_was_cut_short_has_the_rejections_so_far(llm):
    watched = answer(llm, shadowed_request(asked(CONFIGS["hard"], FLAGGED, max_proposed_tokens=2)))
    assert watched.trace.segments[-1].verdict is Verdict.OPEN
    assert len(list(judged(watched.trace))) == len(watched.trace.segments) - 1 == 1


def test_expected_extra_tokens_weigh_attempts_with_length(llm):
    watched = answer(llm, shadowed_request(asked(CONFIGS["hard"], FLAGGED)))
    rejected = sum(one.tokens for one in rejections(watched.trace))
    assert expected_extra_tokens(watched.trace, max_attempts=5) == 4 * rejected > 0
    assert expected_extra_tokens(watched.trace, max_attempts=1) == 0


class Clock:
    """Seconds, as told."""

    now = 0.0

    def __call__(self):
        return self.now


class Sometimes(KeywordReward):
    """Fails on texts with a word, after so many seconds."""

    def __init__(self, clock, seconds=0.0, word="poison"):
        super().__init__(["bad"])
        self.clock, self.seconds, self.word = clock, seconds, word
        self.calls = 0

    def score(self, requests):
        self.calls += 1
        if any(self.word in one.response for one in requests):
            self.clock.now += self.seconds
            raise OSError("down")
        return super().score(requests)


def texts(*pairs):
    return [ScoreRequest(PROMPT, text, finished=False, run_id=run, tokens=1) for run, text in pairs]


def outages(rewards):
    return [OUTAGE in reward.components for reward in rewards]


def test_only_the_answers_whose_scoring_fails_go_unjudged():
    reward = Sometimes(Clock())
    watching = ShadowReward(reward)
    rewards = watching.score(texts(("1", "fine"), ("2", "poison"), ("2", "fine"), ("3", "bad")))
    assert outages(rewards) == [False, True, True, False]
    assert [one.value for one in rewards] == [1.0, -1e9, -1e9, -1.0]
    assert outages(watching.score(texts(("1", "fine"), ("2", "fine")))) == [False, False]
    assert reward.calls == 1 + 3 + 1


@pytest.mark.parametrize(("seconds", "calls"), [(0.9, 2), (1.0, 1)])
def test_a_reward_model_that_fails_slowly_is_left_alone_for_a_while(seconds, calls):
    clock = Clock()
    reward = Sometimes(clock, seconds)
    watching = ShadowReward(reward, patience=1.0, pause=5.0, clock=clock)
    assert outages(watching.score(texts(("1", "poison")))) == [True]
    assert outages(watching.score(texts(("2", "fine")))) == [calls == 1]
    assert reward.calls == calls
    clock.now += 5.0
    assert outages(watching.score(texts(("2", "fine")))) == [False]


def test_without_the_reward_of_the_bare_prompt_an_answer_goes_unjudged():
    reward = FailsOnce()
    llm = StarsGuardedLLM(MODEL, ShadowReward(reward), CONFIGS["ramp"])
    first, second = (answer(llm, shadowed_request(asked(CONFIGS["ramp"], FLAGGED))) for _ in range(2))
    assert all(unjudged(attempt) for _, attempt in judged(first.trace))
    assert not any(unjudged(attempt) for _, attempt in judged(second.trace))
    assert rejections(first.trace) == []
    assert expected_extra_tokens(first.trace, 20) == 0
    assert first.text == second.text == unguarded(FLAGGED, TWO)


class FailsOnce(Tabled):
    """Fails at the first call."""

    failed = False

    def score(self, requests):
        if not self.failed:
            self.failed = True
            raise OSError("down")
        return super().score(requests)


def test_a_text_that_is_no_part_of_an_answer_is_not_let_pass():
    clock = Clock()
    watching = ShadowReward(Sometimes(clock, seconds=9), clock=clock)
    with pytest.raises(ScoringError):
        watching.score(texts(("", "poison")))
    with pytest.raises(ScoringError):
        watching.score(texts(("1", "fine"), ("", "poison")))
    assert outages(watching.score(texts(("1", "poison")))) == [True]
    assert outages(watching.score(texts(("", "fine")))) == [False]


def test_an_outage_never_breaks_an_answer_and_is_in_the_trace(llm):
    broken = StarsGuardedLLM(MODEL, ShadowReward(FailingReward(OSError("down"))), CONFIGS["hard"])
    watched = answer(broken, shadowed_request(asked(CONFIGS["hard"], FLAGGED)))
    assert watched.text == unguarded(FLAGGED, TWO)
    assert all(attempt.components == {OUTAGE: 1.0} for _, attempt in judged(watched.trace))
    assert not any(attempt.accepted for _, attempt in judged(watched.trace))


def test_an_outage_of_the_language_model_is_still_one():
    broken = StarsGuardedLLM(BrokenModel([["x"]]), ShadowReward(Tabled()), CONFIGS["hard"])
    with pytest.raises(GenerationError):
        answer(broken, shadowed_request(asked(CONFIGS["hard"], FLAGGED)))


def test_a_guard_around_it_never_passes_what_was_not_judged():
    broken = StarsGuardedLLM(MODEL, ShadowReward(FailingReward(OSError("down"))), CONFIGS["hard"])
    assert answer(broken, asked(CONFIGS["hard"], FLAGGED)).token_ids == []


def test_the_wrapped_reward_has_the_abilities_of_what_is_inside():
    class Reading(Tabled):
        hidden_layers = (1,)
        parallel_calls = 4

        def observes(self, model):
            return False

    inside = Reading()
    wrapped = WrappedReward(inside)
    assert hidden_state_readers(wrapped) == [inside]
    assert (wrapped.name, wrapped.parallel_calls) == ("tabled", 4)
    assert wrapped.score(texts(("1", "a"))) == [Reward(0.9)]
    assert WrappedReward(Tabled()).parallel_calls == 1
    corrected = CorrectedReward(Tabled(), CORRECTION)
    assert WrappedReward(corrected).correction == CORRECTION
    with pytest.raises(ScoringError):
        CorrectedReward(WrappedReward(FailingReward(OSError())), CORRECTION).score(texts(("1", "a")))
