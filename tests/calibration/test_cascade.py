"""The numbers of a cascade: a scale that is log-odds, and the narrowest band, against exhaustive search."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from stars_guard.calibration.cascade import LogOdds, fit_log_odds, narrowest_band
from stars_guard.errors import ConfigurationError
from stars_guard.rewards.cascade import Cascade, mean_of_both
from tests.rewards.test_combine import Column, values


def labelled(count, seed=0, offset=0.0, unit=1.0, safe_share=0.5):
    """Rewards whose log-odds are known: two normal laws of variance 1 and means +1 and -1 differ by 2 r."""
    dice = random.Random(seed)
    kinds = [1.0 if dice.random() < safe_share else 0.0 for _ in range(count)]
    return [offset + unit * (dice.gauss(2 * kind - 1, 1) * 2) for kind in kinds], kinds


@pytest.mark.parametrize("safe_share", [0.5, 0.9])
def test_the_scale_is_found_whatever_the_mix(safe_share):
    rewards, safe = labelled(6000, offset=3.0, unit=0.5, safe_share=safe_share)
    scale = fit_log_odds(rewards, safe)
    assert scale.offset == pytest.approx(3.0, abs=0.06)
    assert scale.unit == pytest.approx(0.5, rel=0.1)
    assert scale.of(3.0) == pytest.approx(0.0, abs=0.15)


def test_soft_labels_count_by_halves():
    rewards, safe = labelled(400)
    twice = [*rewards, *rewards]
    split = fit_log_odds(twice, [*safe, *(0.5 for _ in safe)])
    assert split.unit > fit_log_odds(twice, [*safe, *safe]).unit


def test_kinds_that_are_fully_parted_have_a_finite_scale():
    scale = fit_log_odds([-1.0] * 8 + [1.0] * 8, [0.0] * 8 + [1.0] * 8)
    assert scale.offset == pytest.approx(0.0, abs=1e-6)
    assert 0 < scale.unit < 10


@pytest.mark.parametrize(
    ("rewards", "safe", "message"),
    [
        ([0.0], [1.0, 0.0], "1 rewards and 2 labels"),
        ([math.nan] * 20, [1.0] * 20, "is not finite"),
        ([0.0] * 20, [2.0] * 20, "a label is not from 0 to 1"),
        ([0.0] * 20, [1.0] * 20, "20 safe and 0 unsafe answers"),
        ([1.0] * 20, [1.0, 0.0] * 10, "no higher for safe answers"),
        ([-1.0, 1.0] * 10, [1.0, 0.0] * 10, "no higher for safe answers"),
    ],
)
def test_a_scale_that_cannot_be_fitted_is_refused(rewards, safe, message):
    with pytest.raises(ConfigurationError, match=message):
        fit_log_odds(rewards, safe)


SCORES = st.lists(st.tuples(st.integers(-6, 6), st.integers(-12, 12)), min_size=1, max_size=9)
SHARES = st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.5, 1.0])
THRESHOLDS = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=2)


def changed(rows, low, high, thresholds):
    return [
        (x, y)
        for x, y in rows
        if not low <= x <= high and any((x >= t) != (mean_of_both(x, y) >= t) for t in thresholds)
    ]


def columns(rows):
    return [float(x) for x, _ in rows], [float(y) for _, y in rows]


@given(SCORES, SHARES, THRESHOLDS)
def test_no_band_asks_about_fewer(rows, share, thresholds):
    band = narrowest_band(*columns(rows), share=share, thresholds=thresholds)
    assert len(changed(rows, band.low, band.high, thresholds)) == round(band.changed * len(rows))
    assert band.changed <= share
    assert band.asked == sum(band.low <= x <= band.high for x, _ in rows) / len(rows)
    least = math.nextafter(min(thresholds), -math.inf), max(thresholds)
    assert band.low <= least[0]
    assert band.high >= least[1]
    for low in [least[0], *(float(x) for x, _ in rows if x < least[0])]:
        for high in [least[1], *(float(x) for x, _ in rows if x > least[1])]:
            if len(changed(rows, low, high, thresholds)) <= share * len(rows):
                inside = sum(low <= x <= high for x, _ in rows) / len(rows)
                assert (inside, high - low) >= (band.asked, band.high - band.low)


@given(SCORES, SHARES, THRESHOLDS)
def test_the_cascade_decides_as_the_mean_but_for_that_share(rows, share, thresholds):
    first, second = columns(rows)
    band = narrowest_band(first, second, share=share, thresholds=thresholds)
    cascade = Cascade({"first": Column(0), "second": Column(1)}, low=band.low, high=band.high)
    rewards = values(cascade, list(zip(first, second, strict=True)))
    differ = [
        any((reward >= t) != (mean_of_both(*row) >= t) for t in thresholds)
        for reward, row in zip(rewards, rows, strict=True)
    ]
    assert sum(differ) <= share * len(rows)


@given(SCORES, THRESHOLDS)
def test_more_may_change_fewer_are_asked(rows, thresholds):
    asked = [
        narrowest_band(*columns(rows), share=share, thresholds=thresholds).asked
        for share in (0.0, 0.2, 0.5, 1.0)
    ]
    assert asked == sorted(asked, reverse=True)


@given(SCORES, SHARES, st.randoms())
def test_the_order_of_the_texts_does_not_matter(rows, share, dice):
    shuffled = dice.sample(rows, len(rows))
    assert narrowest_band(*columns(rows), share=share) == narrowest_band(*columns(shuffled), share=share)


def test_two_that_always_agree_need_no_second_look():
    band = narrowest_band([-2.0, -1.0, 1.0, 2.0], [-2.0, -1.0, 1.0, 2.0])
    assert (band.high, band.asked, band.changed) == (0.0, 0.0, 0.0)
    assert band.low == math.nextafter(0.0, -1.0)


@pytest.mark.parametrize(
    ("first", "second", "changes", "message"),
    [
        ([0.0], [], {}, "1 rewards of the first and 0 of the second"),
        ([], [], {}, "there are no rewards"),
        ([0.0], [math.inf], {}, "is not finite"),
        ([0.0], [0.0], {"share": 1.5}, r"share=1\.5 must be from 0 to 1"),
        ([0.0], [0.0], {"thresholds": ()}, r"thresholds=\(\) must be finite, and at least one"),
        ([0.0], [0.0], {"thresholds": (math.nan,)}, r"thresholds=\(nan,\)"),
    ],
)
def test_a_band_that_cannot_be_found_is_refused(first, second, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        narrowest_band(first, second, **changes)


def test_a_scale_is_affine():
    assert LogOdds(offset=1.0, unit=2.0).of(5.0) == 2.0
