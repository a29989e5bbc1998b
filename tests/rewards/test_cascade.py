"""A cascade: who is asked about what, the reward that comes of it, and what it promises to the law."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.cascade import Cascade, mean_of_both
from stars_guard.rewards.combine import Part
from stars_guard.types import Reward
from tests.rewards.test_combine import Column, asked, values

ANY = st.floats(-1e9, 1e9)


def cascade(first=None, second=None, low=-1.0, high=2.0):
    return Cascade({"cheap": first or Column(0), "dear": second or Column(1)}, low=low, high=high)


def test_the_second_is_asked_once_about_those_in_the_band():
    first, second = Column(0), Column(1, truncated_tokens=3, components={"toxic": 0.5})
    reward = cascade(first, second)
    assert isinstance(reward, RewardModel)
    assert reward.name == "Cascade(cheap=column0, dear=column1)"
    rows = [(-1.5, 9.0), (-1.0, 0.0), (1.0, -2.0), (2.0, 1.0), (2.5, -9.0)]
    rewards = reward.score(asked(rows))
    assert [item.value for item in rewards] == [-1.5, -0.5, -0.5, 1.5, 2.5]
    assert first.calls == [[f"{x} {y}" for x, y in rows]]
    assert second.calls == [["-1.0 0.0", "1.0 -2.0", "2.0 1.0"]]
    assert [item.truncated_tokens for item in rewards] == [0, 3, 3, 3, 0]


def test_what_it_costs_is_counted_by_the_components():
    rewards = cascade().score(asked([(-5.0, 0.0), (0.5, 0.25), (5.0, 0.0)]))
    assert [dict(item.components) for item in rewards] == [
        {"cheap": -5.0},
        {"cheap": 0.5, "dear": 0.25},
        {"cheap": 5.0},
    ]
    assert sum("dear" in item.components for item in rewards) == 1


def test_the_second_is_not_called_where_the_first_is_sure():
    second = Column(1)
    assert values(cascade(second=second), [(-3.0, 1.0), (3.0, 1.0)]) == [-3.0, 3.0]
    assert second.calls == []
    assert cascade(second=second).score([]) == []


def test_within_the_band_the_reward_stays_within_the_band():
    assert values(cascade(), [(0.0, -90.0), (0.0, 90.0)]) == [-1.0, 2.0]


def test_bounds_and_means_are_on_the_common_scale():
    parts = {"cheap": Part(Column(0), offset=10.0, unit=2.0), "dear": Part(Column(1), offset=0.5, unit=0.25)}
    reward = Cascade(parts, low=-1.0, high=1.0)
    assert values(reward, [(12.0, 0.25), (12.5, 0.0), (8.0, 0.75)]) == [0.0, 1.25, 0.0]


def test_numbers_too_large_to_add_have_a_mean():
    assert mean_of_both(1.5e308, 1.5e308) == 1.5e308
    parts = {"cheap": Column(0), "dear": Part(Column(1), unit=1e-300)}
    assert values(Cascade(parts, low=-1.0, high=1.0), [(0.0, 1e300), (0.0, -1e300)]) == [1.0, -1.0]


@given(rows=st.lists(st.tuples(ANY, ANY), max_size=8), low=ANY, width=st.floats(0, 1e9))
def test_the_law_as_it_is_stated(rows, low, width):
    high = low + width
    second = Column(1)
    stated = [x if x < low or x > high else min(high, max(low, x / 2 + y / 2)) for x, y in rows]
    assert values(cascade(second=second, low=low, high=high), rows) == stated
    assert sum(map(len, second.calls)) == sum(low <= x <= high for x, _ in rows)


NEAR = st.floats(-4, 4)


@given(text=st.tuples(NEAR, NEAR), other=st.tuples(NEAR, NEAR), low=NEAR, width=st.floats(0, 4))
def test_what_both_like_better_is_never_rewarded_less(text, other, low, width):
    lower, higher = (tuple(map(of_both, text, other)) for of_both in (min, max))
    under, over = values(cascade(low=low, high=low + width), [lower, higher])
    assert under <= over


@given(text=st.tuples(NEAR, NEAR), low=NEAR, width=st.floats(0, 4), threshold=NEAR)
def test_in_the_band_decisions_are_those_of_the_mean(text, low, width, threshold):
    high = low + width
    (value,) = values(cascade(low=low, high=high), [text])
    if low <= text[0] <= high and low < threshold <= high:
        assert (value >= threshold) == (mean_of_both(*text) >= threshold)
    if not low <= text[0] <= high:
        assert value == text[0]


@given(y=NEAR, low=NEAR, width=st.floats(0.5, 4), steps=st.integers(3, 40))
def test_jumps_are_at_the_bounds_alone_upwards_and_within_the_band(y, low, width, steps):
    high = low + width
    grid = [low - 1 + n * (width + 2) / steps for n in range(steps + 1)]
    points = sorted({*grid, low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf)})
    rewards = values(cascade(low=low, high=high), [(x, y) for x in points])
    for (x, reward), (after, next_reward) in itertools.pairwise(zip(points, rewards, strict=True)):
        jump = next_reward - reward
        at_a_bound = (x < low <= after) or (x <= high < after)
        assert -1e-9 <= jump <= (after - x) + (width if at_a_bound else 0) + 1e-9


@pytest.mark.parametrize("broken", ["raises", "is no number", "is missing"])
def test_a_failure_of_the_second_is_one_of_the_scoring(broken):
    second = Column(1)
    second.score = {
        "raises": lambda requests: 1 / 0,
        "is no number": lambda requests: [Reward(math.nan)] * len(requests),
        "is missing": lambda requests: [],
    }[broken]
    reward = cascade(second=second)
    with pytest.raises(ScoringError, match="column1"):
        reward.score(asked([(9.0, 0.0), (0.5, 0.0)]))
    assert values(reward, [(9.0, 0.0)]) == [9.0]  # nothing to ask it about


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cascade({"a": Column(0)}, low=0, high=1), "has 1 parts; give two"),
        (lambda: Cascade(dict.fromkeys("abc", Column(0)), low=0, high=1), "has 3 parts; give two"),
        (lambda: cascade(low=1.0, high=0.5), r"low=1\.0 is over high=0\.5"),
        (lambda: cascade(low=-math.inf), "low=-inf must be a finite number"),
        (lambda: cascade(high=math.nan), "high=nan must be a finite number"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_release_reaches_both():
    first, second = Column(0), Column(1)
    cascade(first, second).release("run")
    assert (first.released, second.released) == (["run"], ["run"])
