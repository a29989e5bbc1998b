"""The curve of harm against cost, on laws that are small enough to enumerate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Hard, Refuse, Soft
from stars_guard.calibration.description import Estimate
from stars_guard.calibration.harm_curve import (
    ATTEMPTS,
    QUANTILES,
    Aim,
    CurvePoint,
    _point,
    cheapest,
    harm_curve,
    marked_front,
    setting,
)
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.errors import ConfigurationError

REWARDS = (-1.0, 0.0, 1.0)
"""Each as likely as the others, at every position, whatever came before."""
BASE = GuardConfig(threshold=Constant(target=0.0), drawing=Fixed(candidates=1))


def position(number: int, rewards: Sequence[float], length: int = 5) -> SampledPosition:
    return SampledPosition(
        segment=number,
        prefix_tokens=number * length,
        tokens=((number + 1) * length,) * len(rewards),
        rewards=tuple(rewards),
        chosen=0,
    )


def all_answers(candidates: int, positions: int, prompts: int = 1) -> list[SampledAnswer]:
    """Every answer that may be drawn, once: the mean over them is the expectation."""
    combined = product(product(REWARDS, repeat=candidates), repeat=positions)
    return [
        SampledAnswer(
            prompt=n % prompts,
            seed=n,
            max_tokens=positions * 5,
            base_reward=0.0,
            positions=tuple(position(number, rewards) for number, rewards in enumerate(answer)),
            finished=False,
        )
        for n, answer in enumerate(combined)
    ]


def unsafe(reward: float) -> float:
    return float(reward < 0.5)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("rule", [Hard(), Soft(beta=0.5)])
def test_one_segment_is_what_the_law_gives(most: int, rule: Hard | Soft) -> None:
    config = setting(BASE.changed(acceptance=rule), 5, most, 0.0)
    a = [rule.probability(reward, 0.0) for reward in REWARDS]
    p = sum(a) / 3
    shown = 1 - (1 - p) ** most
    attempts = sum((1 - p) ** made for made in range(most))
    point = _point(all_answers(3, 1), config, 0.5, unsafe)
    assert point.refused.value == pytest.approx(1 - shown)
    assert point.acceptance.value == pytest.approx(p)
    assert point.tokens.value == pytest.approx(attempts / shown)
    assert point.steps.value == point.cost.value == point.tokens.value
    if most == 1 or rule == Hard():
        assert point.refused.low is None  # one prompt has no interval


def test_of_what_is_shown_the_unsafe_share_is_that_of_the_tilt() -> None:
    # Accepted are 0 and 1, each as often: half of what is shown is unsafe, and of plain answers two thirds.
    point = _point(all_answers(2, 1), setting(BASE, 5, 2, 0.0), 0.5, unsafe)
    assert point.unsafe.value == pytest.approx(0.5, abs=0.01)
    found = harm_curve({5: all_answers(2, 1)}, BASE, unsafe, "what is under 0.5")
    assert found.plain_unsafe.value == pytest.approx(2 / 3)
    assert (len(found.points), found.proposed) == (len(ATTEMPTS) * len(QUANTILES), None)
    assert any(point.front for point in found.points)


def test_later_segments_are_weighed_as_the_setting_would_leave_them() -> None:
    point = _point(all_answers(2, 2), setting(BASE, 5, 2, 0.0), 0.5, unsafe)
    shown = 1 - (1 / 3) ** 2
    assert point.refused.value == pytest.approx(1 - shown**2)
    assert point.tokens.value == pytest.approx((1 + 1 / 3) / shown)


def test_many_at_once_take_fewer_steps_and_more_tokens() -> None:
    answers = all_answers(4, 1)
    alone = _point(answers, setting(BASE, 5, 4, 1.0), 0.5, unsafe)
    for goal, candidates in (("tokens", 1), ("time", 4)):
        drawing = Adaptive(row_cost=goal, prior_rate=1 / 3)
        point = _point(answers, setting(BASE.changed(drawing=drawing), 5, 4, 1.0), 0.5, unsafe)
        assert point.candidates == candidates
        assert (point.unsafe, point.refused) == (alone.unsafe, alone.refused)
    shown = 1 - (2 / 3) ** 4
    assert point.steps.value == pytest.approx(1 / shown)
    assert point.tokens.value == pytest.approx(4 / shown)
    assert point.cost.value == pytest.approx((1 + 0.08 * 3) / shown)
    assert alone.tokens.value < point.tokens.value


def test_intervals_come_from_prompts() -> None:
    point = _point(all_answers(2, 2, prompts=9), setting(BASE, 5, 2, 0.0), 0.5, unsafe)
    assert point.refused.low < point.refused.value < point.refused.high


def test_what_accepts_nothing_shows_nothing() -> None:
    point = _point(all_answers(2, 2), setting(BASE, 5, 2, 9.0), 0.5, unsafe)
    assert (point.refused.value, point.unsafe.value, point.tokens.value) == (1.0, None, None)


def test_a_point_is_a_setting_that_refuses() -> None:
    base = BASE.changed(floor=-1.0, max_attempts=7, acceptance=Soft(beta=0.2))
    config = setting(base, 8, 4, -3.0)
    assert (config.segments.max_tokens, config.max_attempts, config.threshold.target) == (8, 4, -3.0)
    assert (config.exhaustion, config.acceptance, config.lowest) == (Refuse(), Soft(beta=0.2), -4.0)


def point_at(harm: float, refused: float, cost: float, high: float | None = None) -> CurvePoint:
    low = None if high is None else 0.0
    return CurvePoint(
        segment_tokens=8,
        max_attempts=4,
        quantile=0.5,
        target=0.0,
        candidates=1,
        acceptance=Estimate(value=0.5),
        unsafe=Estimate(value=harm, low=low, high=high),
        refused=Estimate(value=refused),
        tokens=Estimate(value=cost),
        steps=Estimate(value=cost),
        cost=Estimate(value=cost),
    )


SAFE, CHEAP, WORSE, OPEN = (
    point_at(0.1, 0.2, 3.0),
    point_at(0.3, 0.2, 1.5),
    point_at(0.3, 0.3, 3.0),
    point_at(0.05, 0.2, 4.0, high=0.4),
)
POINTS = (SAFE, CHEAP, WORSE, OPEN)


def test_the_front_is_what_no_other_setting_beats() -> None:
    assert [point.front for point in marked_front(POINTS)] == [True, True, False, True]
    assert [point.front for point in marked_front([SAFE, SAFE])] == [True, True]


@pytest.mark.parametrize(
    ("aim", "chosen"),
    [
        (Aim(harm=0.5), CHEAP),
        (Aim(harm=0.2), SAFE),  # the upper end of OPEN's interval is over it
        (Aim(tokens=3.0), SAFE),
        (Aim(tokens=2.0), CHEAP),
        (Aim(refused=0.25), OPEN),
        (Aim(harm=0.5, refused=0.25, tokens=9.0), CHEAP),
    ],
)
def test_the_cheapest_setting_that_keeps_the_aim_is_proposed(aim: Aim, chosen: CurvePoint) -> None:
    assert cheapest(POINTS, aim) == chosen


def test_an_aim_that_nothing_keeps_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"keeps harm=0.01.*the least harm of any is 0.1"):
        cheapest(POINTS, Aim(harm=0.01))
