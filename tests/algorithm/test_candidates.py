"""How many candidates, how long, how strict: fixed or adapted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive, Fixed, SegmentPlan, SegmentTally
from stars_guard.algorithm.replay import replay
from stars_guard.errors import ConfigurationError
from tests.support.guards import guarded, hard

outcomes = st.builds(SegmentTally, attempts=st.integers(1, 20), accepted=st.booleans())
histories = st.lists(outcomes, max_size=15)


@st.composite
def adaptives(draw):
    low, high = sorted((draw(st.integers(1, 64)), draw(st.integers(1, 64))))
    lengths = sorted((draw(st.integers(1, 100)), draw(st.integers(1, 100))))
    return Adaptive(
        min_candidates=low,
        max_candidates=high,
        row_cost=draw(st.floats(0, 5)),
        memory=draw(st.integers(1, 20)),
        segment_tokens=draw(st.sampled_from([None, tuple(lengths)])),
        slack=draw(st.floats(0, 10)),
        target_rate=draw(st.floats(0.01, 0.99)),
    )


@given(histories, st.integers(1, 64), st.integers(1, 500))
def test_fixed_plans_the_same_for_every_history(history, candidates, max_tokens):
    assert Fixed(candidates=candidates).plan(history, max_tokens) == SegmentPlan(candidates, max_tokens, 0.0)


@given(adaptives(), histories, st.integers(1, 500))
def test_adaptive_keeps_its_bounds(drawing, history, max_tokens):
    plan = drawing.plan(history, max_tokens)
    assert drawing.min_candidates <= plan.candidates <= drawing.max_candidates
    assert -drawing.slack <= plan.threshold_shift <= 0
    if drawing.segment_tokens is None:
        assert plan.max_tokens == max_tokens
    else:
        shortest, longest = drawing.segment_tokens
        assert shortest <= plan.max_tokens <= longest


@given(adaptives(), histories, histories)
def test_the_plan_depends_on_the_remembered_history_only(drawing, older, recent):
    remembered = (older + recent)[-drawing.memory :]
    forgotten = [SegmentTally(7, accepted=False)] * 3
    assert drawing.plan(forgotten + remembered, 32) == drawing.plan(forgotten + remembered, 32)
    if len(remembered) == drawing.memory:
        assert drawing.plan(forgotten + remembered, 32) == drawing.plan(remembered, 32)


@given(histories)
def test_the_rate_is_the_posterior_mean(history):
    accepted = sum(one.accepted for one in history)
    judged = sum(one.attempts for one in history)
    assert Adaptive(memory=99).acceptance_rate(history) == pytest.approx((1 + accepted) / (2 + judged))


@given(adaptives(), histories)
def test_the_number_of_candidates_minimises_the_expected_cost(drawing, history):
    rate = drawing.acceptance_rate(history)

    def expected_cost(n):
        # Rounds until one accepts are geometric; each round costs one row plus a share for every other.
        return (1 + drawing.row_cost * (n - 1)) / (1 - (1 - rate) ** n)

    cheapest = min(expected_cost(n) for n in range(drawing.min_candidates, drawing.max_candidates + 1))
    assert expected_cost(drawing.plan(history, 32).candidates) == pytest.approx(cheapest, rel=1e-12)


def cost_until_decided(row_cost, rate, attempts, size):
    """Expected cost by enumeration: a round is drawn where no attempt before it is accepted."""
    cost, made = 0.0, 0
    while made < attempts:
        drawn = min(size, attempts - made)
        cost += (1 - rate) ** made * (1 + row_cost * (drawn - 1))
        made += drawn
    return cost


@given(
    st.floats(0.01, 0.99),
    st.integers(1, 25),
    st.sampled_from([0.0, 0.08, 0.3, 0.9, 1.0, 3.0]),
    st.sampled_from([8, 64]),
)
def test_with_few_attempts_the_last_round_costs_what_is_left(rate, attempts, row_cost, most):
    drawing = Adaptive(row_cost=row_cost, prior_rate=rate, max_candidates=most)
    chosen = drawing.plan([], 32, attempts).candidates
    cheapest = min(cost_until_decided(row_cost, rate, attempts, size) for size in range(1, most + 1))
    assert cost_until_decided(row_cost, rate, attempts, chosen) == pytest.approx(cheapest)
    assert chosen <= attempts


@given(st.floats(0.01, 0.99), histories, st.integers(1, 30))
def test_tokens_are_spent_least_one_at_a_time_from_the_first_segment_on(rate, history, attempts):
    drawing = Adaptive(row_cost="tokens", prior_rate=rate)
    assert drawing.plan(history, 32, attempts).candidates == 1
    assert drawing.plan([], 32).candidates == 1


def test_an_answer_begins_with_the_rate_it_is_told():
    assert [Adaptive(prior_rate=rate).plan([], 32).candidates for rate in (0.1, 0.5, 0.8, 0.99)] == [
        8,
        4,
        2,
        1,
    ]
    likely = Adaptive(prior_rate=0.8)
    assert likely.acceptance_rate([]) == pytest.approx(0.8)
    assert likely.acceptance_rate([SegmentTally(3, accepted=True)]) == pytest.approx(2.6 / 5)


def test_row_costs_have_names():
    assert Adaptive(row_cost="time") == Adaptive() == Adaptive(row_cost=0.08)
    assert Adaptive(row_cost="tokens") == Adaptive(row_cost=1)
    assert Adaptive.model_validate_json(Adaptive(row_cost="tokens").model_dump_json()).row_cost == 1
    with pytest.raises(ConfigurationError, match="row_cost='money': should be a number, or one of 'time'"):
        Adaptive(row_cost="money")


def test_few_tokens_or_few_rounds_give_the_same_answer():
    hard_first = [["bad "] * 5 + ["good "], ["good "], ["bad "] * 2 + ["good "], ["good"]]
    spent = {}
    for goal in ("tokens", "time"):
        llm = guarded(hard_first, config=hard(drawing=Adaptive(row_cost=goal)))
        result = llm.generate("Hi", seed=1)
        (session,) = llm.model.sessions
        spent[goal] = (
            result.text,
            [[attempt.uniform for attempt in segment.attempts] for segment in result.trace.segments],
            sum(segment.drawn for segment in result.trace.segments),
            session.forward_passes,
        )
        assert replay(result.trace) == []
    (text, judged, few_tokens, rounds), (same_text, same, more_tokens, fewer_rounds) = spent.values()
    assert (text, judged) == (same_text, same)
    assert few_tokens == sum(map(len, judged)) == 11
    assert more_tokens > few_tokens
    assert fewer_rounds < rounds


@pytest.mark.parametrize("row_cost", [0.0, 0.01, 0.1, 0.5, 2.0])
def test_more_rejections_never_mean_fewer_candidates(row_cost):
    drawing = Adaptive(row_cost=row_cost, max_candidates=16)
    plans = [drawing.plan([SegmentTally(attempts, True)], 32).candidates for attempts in range(1, 200)]
    assert plans == sorted(plans)


def test_free_rows_ask_for_all_and_dear_rows_for_one():
    history = [SegmentTally(10, True)]
    assert Adaptive(row_cost=0).plan(history, 32).candidates == 8
    assert Adaptive(row_cost=5).plan(history, 32).candidates == 1
    easy, hard = ([SegmentTally(attempts, True)] * 8 for attempts in (1, 12))
    assert Adaptive().plan(easy, 32).candidates < Adaptive().plan(hard, 32).candidates


def test_segments_get_short_where_rejections_are_frequent():
    drawing = Adaptive(segment_tokens=(8, 64))
    lengths = [drawing.plan([SegmentTally(attempts, True)], 32).max_tokens for attempts in (1, 3, 10, 300)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == round(8 + 2 / 3 * 56)
    assert lengths[-1] == 8


def test_slack_is_given_in_proportion_and_only_under_the_target_rate():
    drawing = Adaptive(slack=2.0, target_rate=0.5)
    assert drawing.plan([], 32).threshold_shift == 0
    assert drawing.plan([SegmentTally(1, True)], 32).threshold_shift == 0
    # rate = 2 / 8, half the target rate: half the slack
    assert drawing.plan([SegmentTally(6, True)], 32).threshold_shift == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Fixed(candidates=0), "candidates=0: "),
        (lambda: Fixed(candidates=65), "candidates=65: "),
        (lambda: Adaptive(min_candidates=9), "min_candidates=9 is over max_candidates=8"),
        (lambda: Adaptive(segment_tokens=(9, 8)), r"segment_tokens=\(9, 8\) must be"),
        (lambda: Adaptive(segment_tokens=(0, 8)), r"segment_tokens=\(0, 8\) must be"),
        (lambda: Adaptive(row_cost=-1), "row_cost=-1: "),
        (lambda: Adaptive(memory=0), "memory=0: "),
        (lambda: Adaptive(prior_rate=1), "prior_rate=1: "),
        (lambda: Adaptive(target_rate=1), "target_rate=1: "),
        (lambda: Adaptive(slack=-0.5), "slack=-0.5: "),
    ],
)
def test_wrong_values_are_named_at_construction(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        wrong()
