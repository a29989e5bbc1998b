"""Giving a segment up: the posterior against an urn, and what a run and its replay make of it."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, SafetyHint, TemperatureLadder
from stars_guard.algorithm.patience import FixedPatience, PosteriorPatience, rejection_chances
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Best, Constant, Hard, Last, Refuse, Soft
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.errors import ConfigurationError
from stars_guard.types import Candidate, Reward
from tests.support.guards import guarded, hard
from tests.support.traces import trace_of
from tests.support.urn import all_rejected

probabilities = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.9]), max_size=5)
weights = st.floats(0.01, 4)
policies = st.builds(
    PosteriorPatience,
    at_least=st.integers(1, 6),
    chance=st.floats(0.01, 0.99),
    prior_weight=weights,
)


def chances(seen, weight, most):
    return list(islice(rejection_chances(seen, weight), most))


@given(probabilities, weights)
def test_the_chance_of_rejections_is_that_of_an_urn(seen, weight):
    urn = [all_rejected(tuple(sorted(seen)), attempts, weight) for attempts in (1, 2, 3, 4)]
    assert chances(seen, weight, 4) == pytest.approx(urn)


@given(st.integers(0, 30), weights, st.integers(1, 30))
def test_by_the_hard_rule_it_is_the_beta_binomial_law(rejected, weight, attempts):
    expected = 1.0
    for number in range(attempts):
        expected *= (weight / 2 + rejected + number) / (weight + rejected + number)
    assert chances([0.0] * rejected, weight, attempts)[-1] == pytest.approx(expected)


@given(probabilities, weights, st.randoms(use_true_random=False))
def test_chances_fall_and_do_not_depend_on_the_order(seen, weight, dice: random.Random):
    falling = chances(seen, weight, 12)
    assert falling == sorted(falling, reverse=True)
    assert all(0 <= chance <= 1 for chance in falling)
    assert chances(dice.sample(seen, len(seen)), weight, 12) == pytest.approx(falling)


def test_with_much_seen_it_is_what_the_mean_says():
    seen = [0.1, 0.3] * 2000
    assert chances(seen, 0.2, 5) == pytest.approx([0.8**attempts for attempts in range(1, 6)], rel=0.01)


@given(policies, probabilities, st.integers(1, 8))
def test_it_gives_up_exactly_where_the_chance_is_under_the_setting(policy, seen, left):
    chance = 1 - chances(seen, policy.prior_weight, left)[-1]
    assert policy.gives_up(seen, left) == (len(seen) >= policy.at_least and chance < policy.chance)


@given(policies, probabilities, st.integers(1, 8))
def test_more_hope_or_more_attempts_never_make_it_give_up(policy, seen, left):
    if not policy.gives_up(seen, left):
        assert not policy.gives_up([*seen[1:], 0.9] if seen else seen, left)
        assert not policy.gives_up(seen, left + 1)


@given(policies, probabilities, st.integers(1, 12))
def test_further_attempts_are_made_until_as_many_hopeless_ones_would_be_given_up(policy, seen, left):
    further = policy.further(seen, left)
    assert 1 <= further <= left
    assert further == left or policy.gives_up([*seen, *[0.0] * further], left - further)
    for fewer in range(1, further):
        assert not policy.gives_up([*seen, *[0.0] * fewer], left - fewer)
    # Those that could have been accepted keep the chance up, so that none is given up sooner.
    for fewer in range(1, further):
        assert not policy.gives_up([*seen, *[0.25] * fewer], left - fewer)


def test_further_attempts_of_short_segments_are_all_that_are_left():
    assert FixedPatience().further([0.0] * 9, 3) == 3
    assert PosteriorPatience().further([0.0] * 9, 0) == 0
    assert PosteriorPatience().further([], 20) == 13
    assert PosteriorPatience().further([0.0] * 12, 8) == 1


def test_what_is_known_of_the_probabilities_counts():
    policy = PosteriorPatience()
    assert policy.gives_up([0.0] * 13, 7)
    assert not policy.gives_up([0.02] * 13, 7)
    assert not policy.gives_up([0.0] * 12 + [0.3], 7)


def test_settings_have_short_forms_and_bounds():
    assert GuardConfig(threshold=1.0).patience == FixedPatience()
    assert GuardConfig(threshold=1.0, patience="posterior").patience == PosteriorPatience()
    for wrong in ({"at_least": 0}, {"chance": 0}, {"chance": 1}, {"prior_weight": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            PosteriorPatience(**wrong)
    with pytest.raises(ConfigurationError, match="'fixed', 'posterior'"):
        GuardConfig(threshold=1.0, patience=3)


SOON = PosteriorPatience(at_least=2, chance=0.4, prior_weight=0.2)


def new_run(*, temperature=0.8, seed=0, **changes):
    parts = {"threshold": Constant(target=0), "max_attempts": 20, "patience": SOON, **changes}
    return Run(GuardConfig(**parts), SamplingParams(seed=seed, temperature=temperature))


def judged_until_decided(run):
    """How many hopeless candidates are judged until the segment is decided."""
    segment = run.segment
    while segment.verdict is Verdict.OPEN:
        run.offer(Candidate((1,), "x"), Reward(-1))
    return len(segment.attempts)


def test_a_hopeless_segment_is_given_up_early():
    assert judged_until_decided(new_run()) == 2
    assert judged_until_decided(new_run(patience="posterior")) == 13
    assert judged_until_decided(new_run(patience="fixed")) == 20


@pytest.mark.parametrize(
    ("exhaustion", "verdict"), [(Refuse(), "refused"), (Last(), "forced"), (Best(), "forced")]
)
def test_the_exhaustion_policy_decides_then(exhaustion, verdict):
    run = new_run(exhaustion=exhaustion, floor=-2)
    judged_until_decided(run)
    assert run.segments[0].verdict.value == verdict


def test_hope_keeps_it_going():
    run = new_run(acceptance=Soft(beta=1.0), floor=-9.0)
    run._uniform = lambda *address: 0.999
    assert judged_until_decided(run) > 15


def test_what_is_drawn_otherwise_is_waited_for_and_counted_alone():
    hint = SafetyHint(after=6)
    assert judged_until_decided(new_run(escalation=(hint,))) == 8
    ladder = TemperatureLadder(after=2, step=0.5, every=3, highest=1.8)
    assert judged_until_decided(new_run(escalation=(ladder,))) == 2 + 3 + 2
    assert judged_until_decided(new_run(temperature=0.0)) == 1 + 2
    assert judged_until_decided(new_run(temperature=0.0, retry_temperature=None)) == 1


def test_after_going_back_there_is_no_greedy_attempt_to_leave_out():
    back = Backtrack(segments=1, most=1)
    run = new_run(temperature=0.0, escalation=(back,))
    run.offer(Candidate((1,), "x"), Reward(1))
    assert judged_until_decided(run) == 1 + 2
    assert run.segments[1].verdict is Verdict.BACKTRACKED
    assert judged_until_decided(run) == 2


rewards = st.lists(st.floats(-3, 0.5).map(lambda value: round(value, 2)), min_size=1, max_size=60)


@given(rewards, policies, st.sampled_from([Hard(), Soft(beta=0.5)]), st.integers(0, 9))
def test_a_trace_says_the_policy_and_replays(values, policy, acceptance, seed):
    run = new_run(patience=policy, acceptance=acceptance, floor=-4.0, max_attempts=8, seed=seed)
    for value in values:
        if run.stop_reason is None:
            run.offer(Candidate((1,), "x"), Reward(value))
    trace = Trace.model_validate_json(trace_of(run).model_dump_json())
    assert trace.config.patience == policy
    assert replay(trace) == []


def test_the_plan_knows_how_many_attempts_there_are():
    # Five in one round, where without an end the cheapest would be four at a time, and a fifth alone.
    drawing = Adaptive(prior_rate=0.4)
    assert new_run(drawing=drawing, patience="fixed").plan.candidates == 4
    assert new_run(drawing=drawing, patience="fixed", max_attempts=5).plan.candidates == 5
    soon = PosteriorPatience(at_least=5, chance=0.5)
    assert new_run(drawing=drawing, patience=soon).plan.candidates == 5


def test_attempts_ahead_follow_what_was_seen():
    run = new_run(patience="posterior", acceptance=Soft(beta=1.0), floor=-99.0, threshold=Constant(target=9))
    assert (run.attempts_at_first, run.attempts_ahead) == (13, 13)
    run.offer(Candidate((1,), "x"), Reward(-98))
    assert run.attempts_ahead == 12
    before = run.attempts_ahead
    run.offer(Candidate((1,), "x"), Reward(7.0))
    assert run.attempts_ahead > before  # it came near
    waits = new_run(patience="posterior", escalation=(SafetyHint(after=6),))
    assert (waits.attempts_at_first, waits.attempts_ahead) == (20, 20)


def test_a_trace_with_another_policy_does_not_replay():
    run = new_run(exhaustion=Last(), floor=-2)
    judged_until_decided(run)
    trace = trace_of(run)
    for other in (FixedPatience(), SOON.changed(at_least=1)):
        changed = trace.model_copy(update={"config": trace.config.changed(patience=other)})
        assert replay(changed)


@pytest.mark.parametrize("candidates", [1, 2, 5, 64])
def test_no_round_draws_past_the_place_where_a_segment_may_be_given_up(candidates):
    config = hard(drawing=candidates, patience=SOON, exhaustion=Refuse())
    result = guarded([["bad"] * 2 + ["good"] * 18], config=config).generate("Hi", seed=3)
    assert result.refused
    (segment,) = result.trace.segments
    assert (len(segment.attempts), segment.drawn) == (2, 2)
    assert replay(result.trace) == []
