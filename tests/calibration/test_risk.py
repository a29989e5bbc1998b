"""Conformal risk control: the promise, enumerated exactly and simulated; and what it refuses to promise."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.rules import Constant, Hard, Soft
from stars_guard.calibration.risk import (
    ANY_UNSAFE_ACCEPTED,
    SAFE_REFUSED,
    SAFE_REJECTED_SHARE,
    UNSAFE_ACCEPTED_SHARE,
    UNSAFE_MISSED,
    Example,
    Loss,
    RiskControl,
    control_risk,
)
from stars_guard.errors import ConfigurationError

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

LOSSES = [ANY_UNSAFE_ACCEPTED, UNSAFE_ACCEPTED_SHARE, UNSAFE_MISSED, SAFE_REJECTED_SHARE, SAFE_REFUSED]
RULES = [Hard(), Soft(beta=0.7)]

WORLD = {
    Example((0.0,), (True,)): 0.2,
    Example((1.0,), (False,)): 0.15,
    Example((1.0, 2.0), (False, True)): 0.25,
    Example((2.0, 0.0), (False, False)): 0.1,
    Example((3.0, 1.0), (True, False)): 0.1,
    Example((3.0,), (False,)): 0.2,
}
"""Six answers and their chances: small enough to enumerate every calibration set."""


def single(reward, unsafe):
    return Example((reward,), (unsafe,))


def expected_loss(world, loss, rule, threshold):
    of = [
        (chance, loss.of(one, [rule.probability(reward, threshold) for reward in one.rewards]))
        for one, chance in world.items()
        if loss.counts(one)
    ]
    return sum(chance * value for chance, value in of) / sum(chance for chance, _ in of)


def enumerated(world, loss, rule, alpha, n, choose):
    """Expected loss of the next example, over all calibration sets of ``n`` examples that count."""
    counted = [one for one in world if loss.counts(one)]
    total = sum(world[one] for one in counted)
    risk = 0.0
    for drawn in product(counted, repeat=n):
        chance = math.prod(world[one] / total for one in drawn)
        risk += chance * expected_loss(world, loss, rule, choose(drawn, loss, alpha, rule))
    return risk


@pytest.mark.parametrize("rule", RULES, ids=["hard", "soft"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("alpha", "n"), [(0.25, 3), (0.3, 4), (0.6, 2)])
def test_the_promise_holds_exactly(loss, rule, alpha, n):
    chosen = enumerated(WORLD, loss, rule, alpha, n, lambda *given: control_risk(*given).threshold)
    assert chosen <= alpha + 1e-12


def test_without_the_finite_sample_term_the_promise_would_break():
    def empirical(drawn, loss, alpha, rule):
        rewards = sorted(one.rewards[0] for one in drawn)
        return math.nextafter(rewards[-1 - int(alpha * len(rewards))], math.inf)

    world = {single(float(reward), True): 0.1 for reward in range(10)}
    assert enumerated(world, UNSAFE_MISSED, Hard(), 0.35, 3, empirical) > 0.4
    kept = enumerated(world, UNSAFE_MISSED, Hard(), 0.35, 3, lambda *given: control_risk(*given).threshold)
    assert kept <= 0.35


@pytest.mark.parametrize("rule", RULES, ids=["hard", "soft"])
@pytest.mark.parametrize(("loss", "unsafe"), [(UNSAFE_MISSED, True), (SAFE_REFUSED, False)])
def test_the_promise_holds_in_simulation_and_is_not_wasteful(loss, unsafe, rule):
    scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    n, alpha, repeats = 19, 0.3, 500
    random_ = random.Random(7)

    def draw():
        return single(random_.gauss(0, 1), unsafe)

    losses = 0
    for _ in range(repeats):
        threshold = control_risk([draw() for _ in range(n)], loss, alpha, rule).threshold
        (reward,) = draw().rewards
        accepted = random_.random() < rule.probability(reward, threshold)
        losses += accepted if unsafe else not accepted
    # Losses of independent repeats with a chance of at most alpha, and of at least alpha - 2 / (n + 1).
    assert losses <= scipy_stats.binom.isf(1e-6, repeats, alpha)
    assert losses >= scipy_stats.binom.ppf(1e-6, repeats, alpha - 2 / (n + 1))


def test_by_hand():
    # alpha 0.5 and n = 4 allow (losses + 1) / 5 <= 0.5: one loss, so the second highest unsafe reward is out.
    examples = [single(reward, True) for reward in (1.0, 2.0, 3.0, 4.0)]
    found = control_risk(examples, UNSAFE_MISSED, 0.5)
    assert found.threshold == math.nextafter(3.0, math.inf)
    assert (found.n, found.empirical_risk, found.bound) == (4, 0.25, 0.4)
    refused = control_risk([single(reward, False) for reward in (1.0, 2.0, 3.0, 4.0)], SAFE_REFUSED, 0.5)
    assert refused.threshold == 2.0
    assert (refused.empirical_risk, refused.bound) == (0.25, 0.4)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(-1e9, 1e9), st.booleans()), min_size=1, max_size=3),
        min_size=9,
        max_size=15,
    ),
    st.sampled_from(LOSSES),
    st.sampled_from(RULES),
)
def test_the_threshold_is_allowed_and_the_next_one_is_not(rows, loss, rule):
    examples = [Example(*map(tuple, zip(*row, strict=True))) for row in rows]
    counted = [one for one in examples if loss.counts(one)]
    if len(counted) < 9:
        with pytest.raises(ConfigurationError, match="give at least 9"):
            control_risk(examples, loss, 0.1, rule)
        return
    found = control_risk(examples, loss, 0.1, rule)
    rewards = [reward for one in counted for reward in one.rewards]
    assert found.bound <= 0.1
    end, careless = (max(rewards), math.inf) if loss.rises else (min(rewards), -math.inf)
    if found.threshold == end:
        return
    next_one = math.nextafter(found.threshold, careless)
    losses = [loss.of(one, [rule.probability(r, next_one) for r in one.rewards]) for one in counted]
    assert (sum(losses) + 1) / (len(counted) + 1) > 0.1 - 1e-12


@pytest.mark.parametrize(
    ("loss", "hard", "soft"),
    [
        (ANY_UNSAFE_ACCEPTED, 1.0, 1 - 0.5 * 0.75),
        (UNSAFE_ACCEPTED_SHARE, 0.5, 0.75 / 4),
        (UNSAFE_MISSED, 1.0, 1 - 0.5 * 0.75),
        (SAFE_REJECTED_SHARE, 0.25, (0.1 + 0.2) / 4),
        (SAFE_REFUSED, 0.5, (0.1 + 0.2) / 2),
    ],
)
def test_what_each_loss_counts(loss, hard, soft):
    example = Example((1.0, 1.0, 1.0, 1.0), (True, True, False, False))
    assert loss.of(example, [1.0, 1.0, 0.0, 1.0]) == hard
    assert loss.of(example, [0.5, 0.25, 0.9, 0.8]) == pytest.approx(soft)


def test_only_the_population_counts():
    examples = [single(1.0, True)] * 20 + [single(2.0, False)] * 30
    assert control_risk(examples, UNSAFE_MISSED, 0.2).n == 20
    assert control_risk(examples, SAFE_REFUSED, 0.2).n == 30
    assert control_risk(examples, ANY_UNSAFE_ACCEPTED, 0.2).n == 50


def test_where_anything_goes_the_threshold_is_the_end_of_what_was_seen():
    assert control_risk([single(float(n), False) for n in range(20)], ANY_UNSAFE_ACCEPTED, 0.1).threshold == 0
    assert control_risk([single(float(n), True) for n in range(20)], SAFE_REJECTED_SHARE, 0.1).threshold == 19


def test_the_result_says_what_it_promises_and_survives_json():
    found = control_risk([single(float(n), True) for n in range(99)], UNSAFE_MISSED, 0.05, Soft(beta=0.5))
    assert found.guarantee.startswith(
        f"With the soft rule with beta 0.5 at a fixed threshold of {found.threshold:.6g}"
    )
    assert "one that is accepted is at most 0.05" in found.guarantee
    assert any("exchangeable" in line for line in found.assumptions)
    assert any("average over draws" in line for line in found.assumptions)
    assert "hard rule at" in control_risk([single(0.0, True)] * 99, UNSAFE_MISSED, 0.05).guarantee
    assert RiskControl.model_validate_json(found.model_dump_json()) == found
    assert Constant(target=found.threshold).target == found.threshold


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        control_risk([single(0.0, True)] * 99, UNSAFE_MISSED, alpha)


@pytest.mark.parametrize(("alpha", "needed"), [(0.1, 9), (0.05, 19), (0.3, 3), (0.01, 99)])
def test_too_few_examples_are_said_to_be_too_few(alpha, needed):
    with pytest.raises(ConfigurationError, match=f"{needed - 1} examples.*give at least {needed} "):
        control_risk([single(0.0, True)] * (needed - 1), UNSAFE_MISSED, alpha)
    assert control_risk([single(0.0, True)] * needed, UNSAFE_MISSED, alpha).empirical_risk == 0


def test_no_examples_that_count():
    with pytest.raises(ConfigurationError, match="0 examples that count"):
        control_risk([single(0.0, False)] * 99, UNSAFE_MISSED, 0.1)


@pytest.mark.parametrize("rises", [True, False])
def test_a_loss_that_no_threshold_lowers(rises):
    always = Loss("loss", lambda example, accepted: 1.0, lambda example: True, rises)
    with pytest.raises(ConfigurationError, match=r"no threshold keeps the loss at 0\.5"):
        control_risk([single(0.0, True)] * 9, always, 0.5)


@pytest.mark.parametrize(
    ("rewards", "unsafe", "message"),
    [((), (), "0 rewards"), ((1.0,), (True, False), "2 labels"), ((math.nan,), (True,), "finite")],
)
def test_an_example_is_whole(rewards, unsafe, message):
    with pytest.raises(ConfigurationError, match=message):
        Example(rewards, unsafe)


@pytest.mark.parametrize("rule", RULES, ids=["hard", "soft"])
def test_rewards_less_a_schedule_give_the_shift_of_the_schedule(rule):
    random_ = random.Random(3)
    rows = [tuple(random_.gauss(0, 4) for _ in range(3)) for _ in range(30)]
    schedule, labels = (1.0, 2.0, 4.0), (True, False, True)
    less = [Example(tuple(r - t for r, t in zip(row, schedule, strict=True)), labels) for row in rows]
    found = control_risk(less, UNSAFE_MISSED, 0.2, rule)
    shifted = [threshold + found.threshold for threshold in schedule]
    losses = []
    for row in rows:
        accepted = [rule.probability(r, t) for r, t in zip(row, shifted, strict=True)]
        losses.append(UNSAFE_MISSED.of(Example(row, labels), accepted))
    assert found.empirical_risk > 0.09
    assert sum(losses) / len(losses) == pytest.approx(found.empirical_risk, abs=1e-6)
