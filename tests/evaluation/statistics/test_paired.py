"""Paired differences: values, exact chances, and intervals that hold as often as they say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.evaluation.statistics.estimates import bootstrapped, bootstrapped_amount
from stars_guard.evaluation.statistics.paired import paired_difference

VALUES = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8)


def by_prompt(values):
    return {f"p{number}": [value] for number, value in enumerate(values)}


@given(VALUES)
def test_a_method_does_not_differ_from_itself(values):
    difference = paired_difference(by_prompt(values), by_prompt(values), seed=0, resamples=50)
    assert (difference.value, difference.low, difference.high, difference.chance) == (0, 0, 0, 1)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=8)
)
def test_the_chance_is_that_of_all_signs(pairs):
    values, others = zip(*pairs, strict=True)
    differences = [value - other for value, other in pairs]
    seen = abs(sum(differences))
    signed = [
        abs(sum(sign * difference for sign, difference in zip(signs, differences, strict=True)))
        for signs in product([-1, 1], repeat=len(pairs))
    ]
    expected = np.mean([total >= seen - 1e-9 for total in signed])
    difference = paired_difference(by_prompt(values), by_prompt(others), seed=0, resamples=20)
    assert difference.chance == pytest.approx(expected)
    assert difference.value == pytest.approx(np.mean(differences))


def test_many_prompts_are_tested_with_random_signs():
    values = [1.0] * 30 + [0.0] * 10
    difference = paired_difference(by_prompt(values), by_prompt([0.0] * 40), seed=0)
    assert difference.chance < 0.001
    assert difference.low > 0.5
    even = paired_difference(by_prompt([1.0, 0.0] * 20), by_prompt([0.0, 1.0] * 20), seed=0)
    assert even.chance == 1


def test_only_prompts_that_both_answered_count():
    difference = paired_difference({"a": [1.0], "b": [0.0]}, {"a": [0.0, 1.0], "c": [5.0]}, seed=0)
    assert (difference.value, difference.prompts, difference.spread) == (0.5, 1, 0.0)
    assert paired_difference({"a": [1.0]}, {"b": [1.0]}, seed=0) is None


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        values = by_prompt((random.random(60) < 0.3).astype(float))
        estimate = bootstrapped(values, seed=trial, resamples=400)
        held += estimate.low <= 0.3 <= estimate.high
    assert 0.88 <= held / 200 <= 1


def test_there_is_no_mean_of_no_prompts():
    assert bootstrapped({}, seed=0) is None
    assert bootstrapped({"p": []}, seed=0) is None


def test_answers_to_one_prompt_count_as_one():
    estimate = bootstrapped({"a": [1.0] * 10, "b": [0.0]}, seed=0)
    assert (estimate.value, estimate.prompts) == (0.5, 2)


@given(st.integers(1, 400), st.sampled_from([0.0, 1.0]))
def test_a_share_without_exception_is_not_certain(prompts, share):
    estimate = bootstrapped(by_prompt([share] * prompts), seed=0)
    reach = abs(share - (estimate.high if share == 0 else estimate.low))
    # The share at which a run without exception has a chance of 2.5 %.
    assert (1 - reach) ** prompts == pytest.approx(0.025)
    assert share in (estimate.low, estimate.high)


@given(st.integers(1, 50), st.sampled_from([0.0, 1.0, 7.0]))
def test_an_amount_that_is_always_the_same_is_no_share(prompts, amount):
    estimate = bootstrapped_amount(by_prompt([amount] * prompts), seed=0, resamples=20)
    assert (estimate.low, estimate.value, estimate.high, estimate.prompts) == (amount,) * 3 + (prompts,)
