"""How often a segment is shown after all attempts, by enumeration; and settings that are chosen by that."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInTokens,
    Refuse,
    Soft,
    Table,
    Watch,
    shown_chance,
)
from stars_guard.calibration.fit import Wish, fit
from stars_guard.calibration.labelled import control
from stars_guard.calibration.promises import Drawn, Pool
from stars_guard.calibration.risk import Example, shown_within
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.calibration.shown import UNDER_TARGET, ShownWish, chance, shown_at, shown_chances
from stars_guard.errors import ConfigurationError

NEAR = pytest.approx
SOFT = GuardConfig(threshold=Constant(target=1.0), acceptance=Soft(beta=0.5), floor=-9.0, exhaustion=Refuse())


def enumerated(probability, attempts):
    """The chance of all courses of so many attempts, one by one, in which any is accepted."""
    courses = product((True, False), repeat=attempts)
    weights = [
        math.prod(probability if accepted else 1 - probability for accepted in course)
        for course in courses
        if any(course)
    ]
    return math.fsum(weights)


@given(st.floats(0, 1), st.integers(0, 8))
def test_the_chance_is_that_of_all_courses(probability, attempts):
    assert shown_chance(probability, attempts) == NEAR(enumerated(probability, attempts), abs=1e-12)


def test_a_chance_of_one_in_twenty_a_try_is_two_in_three_a_segment():
    assert shown_chance(0.05, 20) == NEAR(0.6415, abs=1e-4)
    assert shown_chance(1e-18, 20) == NEAR(2e-17)
    assert (shown_chance(1.0, 3), shown_chance(0.0, 3), shown_chance(1.0, 0)) == (1.0, 0.0, 0.0)


def test_the_table_of_the_docs_is_that_of_the_function():
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text("utf-8")
    table = page[page.index("| under the target, in beta |") :].partition("\n\n")[0]
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) % \| ([\d.]+) % \|$", table, flags=re.M)
    assert len(rows) == 8
    for under, a_try, a_segment in rows:
        accepted = math.exp(-float(under))
        assert float(a_try) == NEAR(100 * accepted, rel=0.05)
        assert float(a_segment) == NEAR(100 * shown_chance(accepted, 20), rel=0.05)


@pytest.mark.parametrize("under", UNDER_TARGET)
def test_a_row_says_what_the_rule_does(under):
    row = shown_at(SOFT, 1.0 - under)
    assert row.under_target == under
    assert row.a_try == NEAR(math.exp(-under / 0.5))
    assert row.a_segment == row.worst == NEAR(1 - (1 - row.a_try) ** 20, rel=1e-9)


def test_rows_fall_from_the_target_and_hold_what_is_of_interest():
    rows = shown_chances(SOFT, [0.9, -1.5])
    assert [row.reward for row in rows] == sorted({row.reward for row in rows}, reverse=True)
    assert {0.9, -1.5} < {row.reward for row in rows}
    for column in ("a_try", "a_segment", "worst"):
        values = [getattr(row, column) for row in rows]
        assert values == sorted(values, reverse=True)
    hard = shown_chances(SOFT.changed(acceptance=Hard(), floor=None))
    assert [row.worst for row in hard] == [1.0, *[0.0] * (len(UNDER_TARGET) - 1)]


@pytest.mark.parametrize(
    ("changes", "worst"),
    [
        ({"floor": 0.0}, 0.0),  # under the floor nothing is shown
        ({"exhaustion": Best()}, 1.0),  # what is not accepted is forced
        ({"exhaustion": Best(floor=0.0)}, None),
        ({"exhaustion": Last()}, 1.0),
        ({"exhaustion": Last(), "floor": 0.0}, 0.0),
        ({"exhaustion": Watch(), "floor": 0.0}, 1.0),
        ({"threshold": LinearInTokens(target=1.0)}, 1.0),  # a prompt may bring the bar down to the floor
        ({"threshold": LinearInTokens(target=1.0, alpha=1)}, None),
        ({"threshold": FrontLoaded(target=1.0, start=2.0)}, None),
        ({"threshold": Table(positions=(8, 16), thresholds=(-1.0, 1.0))}, 1.0),
    ],
)
def test_the_worst_case_counts_low_bars_and_force(changes, worst):
    row = shown_at(SOFT.changed(**changes), -0.5)
    assert row.worst == (row.a_segment if worst is None else worst)


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.0, "0%"), (1.0, "100%"), (0.6415, "64 %"), (0.05, "5 %"), (1e-5, "0.001 %"), (0.9999, "100%")],
)
def test_chances_in_words(probability, words):
    assert chance(probability) == words


def drawn(seed=1, prompts=40, spread=1.0):
    """Answers of two segments whose candidates score a normal law."""
    dice = Random(seed)
    return [
        SampledAnswer(
            prompt=number,
            seed=number,
            max_tokens=16,
            base_reward=0.0,
            finished=False,
            positions=[
                SampledPosition(
                    segment=segment,
                    prefix_tokens=8 * segment,
                    tokens=(8 * segment + 8,) * 6,
                    rewards=tuple(dice.gauss(0, spread) for _ in range(6)),
                    chosen=dice.randrange(6),
                )
                for segment in range(2)
            ],
        )
        for number in range(prompts)
    ]


POOL = Pool(Drawn(drawn()))
BASE = GuardConfig(threshold=Constant(target=0.0), max_attempts=20)


def fitted(reward, below, **changes):
    wish = {"acceptance": 0.3, "kind": "constant", "shown": ShownWish(reward, below), **changes}
    return fit(POOL, Wish(**wish), BASE)


def test_settings_are_chosen_by_how_often_a_bad_segment_is_shown():
    plain = fit(POOL, Wish(acceptance=0.3, kind="constant"), BASE)
    reward = plain.lowest + 0.01
    assert shown_at(plain, reward).worst == 1.0  # it would be forced
    betas = [plain.acceptance.beta]
    for below in (0.5, 0.05):
        chosen = fitted(reward, below)
        assert shown_at(chosen, reward).worst <= below
        accepted = chosen.acceptance.probability(reward, chosen.threshold.target)
        assert 0.9 * below <= 1 - (1 - accepted) ** 20 <= below  # no stricter than need be
        assert POOL.acceptance(chosen) == NEAR(0.3, abs=0.02)
        betas.append(chosen.acceptance.beta)
    assert betas == sorted(betas, reverse=True)


def test_a_segment_that_is_to_be_rare_is_not_forced():
    chosen = fitted(-0.5, 0.5)
    assert chosen.exhaustion == Best(floor=math.nextafter(-0.5, math.inf))
    lower = chosen.changed(floor=-9.0)
    assert 0 < shown_at(lower, -0.5).worst <= 0.5
    assert shown_at(lower, -0.4).worst == 1.0


def test_a_beta_that_does_is_kept():
    plain = fit(POOL, Wish(acceptance=0.3, kind="constant"), BASE)
    assert fitted(plain.lowest - 9, 0.05).acceptance == plain.acceptance
    hard = fitted(-0.5, 0.05, beta=0.0)
    assert (hard.acceptance, shown_at(hard, -0.5).worst) == (Hard(), 0.0)


@pytest.mark.parametrize("beta", [None, 0.0])
def test_a_reward_over_the_target_cannot_be_shown_seldom(beta):
    with pytest.raises(ConfigurationError, match="shown even by the hard rule; want a lower acceptance"):
        fitted(3.0, 0.05, beta=beta)


def test_a_wish_that_cannot_hold_is_refused():
    with pytest.raises(ConfigurationError, match="constant threshold, not for linear_in_tokens"):
        Wish(shown=ShownWish(0.0, 0.1))
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        ShownWish(0.0, 1.0)


EXAMPLES = [Example((reward / 50 - 2,), (unsafe,)) for reward in range(150) for unsafe in (True, False)]


def test_labelled_answers_can_be_shown_seldom_after_all_attempts():
    alpha, rule = 0.1, Soft(beta=0.2)
    once, often = control(EXAMPLES, alpha, rule), control(EXAMPLES, alpha, rule, attempts=20)
    assert often.threshold > once.threshold
    unsafe = [example.rewards[0] for example in EXAMPLES if example.unsafe[0]]

    def bound(threshold):
        shown = [1 - (1 - rule.probability(reward, threshold)) ** 20 for reward in unsafe]
        return (sum(shown) + 1) / (len(unsafe) + 1)

    assert bound(often.threshold) <= alpha < bound(often.threshold - 1e-6)
    assert "shown within 20 attempts" in often.guarantee
    assert "20 attempts that all score" in often.assumptions[-1]
    assert "A guard that rejects one proposes others" in once.assumptions[-1]


def test_the_loss_counts_every_unsafe_segment():
    example = Example((0.0, 0.0, 0.0), (True, False, True))
    loss = shown_within(3)
    assert loss.of(example, [0.1, 1.0, 0.2]) == NEAR(1 - (0.9 * 0.8) ** 3)
    assert not loss.rises
