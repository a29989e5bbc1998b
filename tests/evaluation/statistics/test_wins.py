"""Win rates: ties kept, orders compared, and a test that is exact for few prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.evaluation.statistics.wins import win_rate

VERDICTS = st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=1, max_size=10)


def rate_of(orders):
    return win_rate({f"p{number}": [verdicts] for number, verdicts in enumerate(orders)}, seed=0)


@given(VERDICTS)
def test_every_pair_is_won_tied_or_lost(orders):
    won = rate_of(orders)
    assert won.wins + won.ties + won.losses == len(orders)
    assert won.rate.low <= won.rate.value <= won.rate.high
    assert won.rate.value == pytest.approx(sum(map(sum, orders)) / len(orders) / 2)
    agreeing = sum(first == second for first, second in orders) / len(orders)
    assert won.orders_agree.value == pytest.approx(agreeing)
    assert won.orders_agree.low <= agreeing <= won.orders_agree.high


@given(VERDICTS)
def test_whose_answers_are_called_the_others_turns_wins_into_losses(orders):
    won, lost = rate_of(orders), rate_of([(1 - first, 1 - second) for first, second in orders])
    assert (won.wins, won.ties, won.losses) == (lost.losses, lost.ties, lost.wins)
    assert won.rate.value == pytest.approx(1 - lost.rate.value)
    assert won.chance == pytest.approx(lost.chance)


def test_the_order_that_decides_is_a_tie_and_is_told():
    won = rate_of([(1.0, 0.0)] * 4)
    assert (won.wins, won.ties, won.losses, won.orders_agree.value, won.chance) == (0, 4, 0, 0.0, 1.0)


def test_five_wins_of_five_have_the_chance_of_two_patterns_among_all():
    won = rate_of([(1.0,)] * 5)
    assert won.chance == 2 / 2**5
    assert won.orders_agree is None


def test_nothing_judged_has_no_rate():
    assert win_rate({}, seed=0) is None


def test_agreement_is_that_of_the_pairs_judged_in_both_orders():
    won = win_rate({"a": [(1.0, 1.0), (1.0,)], "b": [(0.0,)], "c": [(0.0, 1.0)]}, seed=0)
    assert (won.orders_agree.value, won.orders_agree.prompts) == (0.5, 2)
    assert (won.wins, won.ties, won.losses) == (2, 1, 1)
