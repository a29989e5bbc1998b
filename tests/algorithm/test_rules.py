"""The rule as numbers: schedules, acceptance probabilities, floors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.rules import (
    Constant,
    FrontLoaded,
    Hard,
    LinearInSegments,
    LinearInTokens,
    Position,
    Ramp,
    Schedule,
    Soft,
    Table,
    default_floor,
    expected_attempts,
    shown_chance,
)
from stars_guard.errors import ConfigurationError

rewards = st.floats(-1e6, 1e6)
shares = st.floats(0, 1)
betas = st.floats(1e-6, 1e3)


def at(tokens=1, *, segment=1, max_tokens=100, base=None, floor=-math.inf):
    return Position(tokens, segment, max_tokens, base, floor)


@st.composite
def positions(draw):
    max_tokens = draw(st.integers(1, 500))
    tokens = draw(st.integers(0, max_tokens))
    return Position(tokens, draw(st.integers(1, 60)), max_tokens, draw(rewards))


def ramps(target, alpha, segments=5):
    return [
        LinearInTokens(target=target, alpha=alpha),
        LinearInSegments(target=target, alpha=alpha, segments=segments),
    ]


@pytest.mark.parametrize(
    ("schedule", "position", "expected"),
    [
        # tau_0 = 0.5 * -2 + 0.5 * 2 = 0, then a quarter of the way from 0 to 2
        (LinearInTokens(target=2, horizon=100), at(25, base=-2), 0.5),
        (LinearInTokens(target=2, horizon=100), at(100, base=-2), 2.0),
        (LinearInTokens(target=2, horizon=100), at(101, base=-2), 2.0),
        (LinearInTokens(target=2), at(64, max_tokens=2048, base=-2), 0.5),  # 256 by default
        (LinearInTokens(target=2, horizon="request"), at(64, max_tokens=2048, base=-2), 2 / 32),
        (LinearInTokens(target=2, alpha=0), at(0, base=-2), -2.0),
        (LinearInTokens(target=2, alpha=0, horizon=100), at(50, base=-2), 0.0),
        # From the floor on, however low the bare prompt scores.
        (LinearInTokens(target=2, horizon=100), at(0, base=-2, floor=-1), 0.0),
        (LinearInTokens(target=2, horizon=100), at(0, base=-8, floor=-1), -1.0),
        (LinearInTokens(target=2, horizon=100), at(50, base=-8, floor=-1), 0.5),
        (LinearInTokens(target=2), at(0, floor=2), 2.0),
        (LinearInSegments(target=4, segments=4, alpha=0), at(1, segment=1, base=-9, floor=0), 1.0),
        (LinearInTokens(target=2, alpha=0.25), at(0, base=-2), -1.0),
        (LinearInTokens(target=2, alpha=1), at(1), 2.0),
        (LinearInTokens(target=2, alpha=0), at(10, base=6), 2.0),
        (LinearInSegments(target=4, segments=4, alpha=0), at(99, segment=1, base=0), 1.0),
        (LinearInSegments(target=4, segments=4, alpha=0), at(1, segment=3, base=0), 3.0),
        (LinearInSegments(target=4, segments=4, alpha=0), at(1, segment=9, base=0), 4.0),
        (LinearInSegments(target=4, segments=4, alpha=1), at(1), 4.0),
        (Constant(target=-1.5), at(7), -1.5),
        (FrontLoaded(target=1, start=3, decay_tokens=10), at(0), 3.0),
        (FrontLoaded(target=1, start=3, decay_tokens=10), at(10), 1 + 2 / math.e),
    ],
)
def test_thresholds_follow_the_formulas(schedule, position, expected):
    assert schedule.threshold(position) == pytest.approx(expected)


@given(rewards, shares, positions())
def test_ramps_never_pass_their_target(target, alpha, position):
    for ramp in ramps(target, alpha):
        assert ramp.threshold(position) <= target


@given(st.floats(-1e3, 1e3), shares, st.floats(-1e3, 1e3), st.integers(1, 100), st.integers(0, 100))
def test_ramps_rise_with_tokens_and_segments(target, alpha, base, later, earlier):
    late, early = max(later, earlier), min(later, earlier)
    rounding = 1e-9
    in_tokens, in_segments = ramps(target, alpha, segments=60)
    assert in_tokens.threshold(at(late, base=base)) >= in_tokens.threshold(at(early, base=base)) - rounding
    first, then = (at(segment=max(1, number), base=base) for number in (early, late))
    assert in_segments.threshold(then) >= in_segments.threshold(first) - rounding


@pytest.mark.parametrize("base", [-3.0, 1.0, 9.0])
def test_a_ramp_in_segments_stays_at_its_target_once_it_got_there(base):
    ramp = LinearInSegments(target=1, alpha=0, segments=3)
    assert [ramp.threshold(at(segment=number, base=base)) for number in (3, 4, 10, 100)] == [1.0] * 4


@given(rewards, rewards)
def test_alpha_1_is_the_constant_target_without_a_base_reward(target, base):
    for ramp in ramps(target, 1.0):
        assert not ramp.needs_base_reward
        assert ramp.threshold(at()) == target
        assert ramp.threshold(at(base=base)) == target


@given(rewards, rewards)
def test_alpha_0_starts_at_the_base_reward_or_the_target_if_that_is_lower(target, base):
    ramp = LinearInTokens(target=target, alpha=0)
    assert ramp.needs_base_reward
    assert ramp.threshold(at(0, base=base)) == min(base, target)


def test_only_ramps_need_the_base_reward():
    assert not Constant(target=1).needs_base_reward
    assert not FrontLoaded(target=1, start=2).needs_base_reward
    assert not Table(positions=(1,), thresholds=(0.0,)).needs_base_reward
    assert LinearInTokens(target=1).needs_base_reward


def test_a_ramp_without_its_base_reward_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="bare prompt"):
        LinearInTokens(target=1).threshold(at())


@given(
    st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0.1, 1e3), st.lists(st.integers(0, 999), min_size=2)
)
def test_front_loaded_falls_from_start_towards_target(target, excess, decay, tokens):
    schedule = FrontLoaded(target=target, start=target + excess, decay_tokens=decay)
    values = [schedule.threshold(at(one)) for one in sorted(tokens)]
    assert values == sorted(values, reverse=True)
    assert all(target <= value <= schedule.start for value in values)
    # The excess decays by 1/e every decay_tokens.
    assert schedule.threshold(at(decay)) - target == pytest.approx(excess / math.e, abs=1e-9)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 1.0), (1, 1.0), (8, 1.0), (9, 2.0), (16, 2.0), (17, 0.5), (30, 0.5), (999, 0.5)],
)
def test_table_uses_the_first_entry_at_or_after_the_position_and_the_last_past_the_end(tokens, expected):
    table = Table(positions=(8, 16, 30), thresholds=(1.0, 2.0, 0.5))
    assert table.threshold(at(tokens, max_tokens=999)) == expected
    assert table.target == 0.5


@given(st.dictionaries(st.integers(1, 50), rewards, min_size=1), st.integers(0, 60))
def test_table_agrees_with_a_linear_search(entries, tokens):
    places = sorted(entries)
    table = Table(positions=places, thresholds=[entries[place] for place in places])
    expected = next((entries[place] for place in places if place >= tokens), entries[places[-1]])
    assert table.threshold(at(tokens)) == expected


@given(rewards, rewards, betas)
def test_probabilities_are_in_0_to_1_and_1_from_the_threshold_on(reward, threshold, beta):
    for rule in (Soft(beta=beta), Hard()):
        assert 0 <= rule.probability(reward, threshold) <= 1
        assert rule.probability(threshold, threshold) == 1
        assert rule.probability(max(reward, threshold), threshold) == 1


@given(st.floats(-50, 50), st.floats(0, 50), st.floats(0.1, 10))
def test_soft_probability_is_exponential_under_the_threshold(threshold, gap, beta):
    reward = threshold - gap
    assert Soft(beta=beta).probability(reward, threshold) == pytest.approx(
        math.exp((reward - threshold) / beta)
    )


@given(rewards, st.floats(1e-3, 1e6), st.booleans())
def test_soft_becomes_hard_as_beta_goes_to_0(threshold, gap, above):
    reward = threshold + (gap if above else -gap)
    assert Soft(beta=1e-12).probability(reward, threshold) == Hard().probability(reward, threshold) == above


@given(rewards, rewards, rewards, betas)
def test_a_higher_reward_is_never_less_likely_accepted(one, other, threshold, beta):
    low, high = sorted((one, other))
    for rule in (Soft(beta=beta), Hard()):
        assert rule.probability(low, threshold) <= rule.probability(high, threshold)


@pytest.mark.parametrize(("acceptance", "expected"), [(Soft(beta=0.5), 3 - 2.5), (Hard(), 3.0)])
def test_the_default_floor_is_five_beta_under_the_target(acceptance, expected):
    assert default_floor(3.0, acceptance) == expected
    # Five beta under the threshold the soft rule accepts fewer than 1 in 148.
    assert Soft(beta=0.5).probability(3 - 2.5, 3.0) < 1 / 148


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: LinearInTokens(target=1, alpha=1.5), "LinearInTokens: alpha=1.5: "),
        (lambda: LinearInTokens(target=1, alpha=-0.1), "alpha=-0.1: "),
        (lambda: LinearInTokens(), "target: Field required"),
        (lambda: LinearInTokens(target=math.nan), "target=nan: "),
        (lambda: Constant(target=math.inf), "target=inf: "),
        (lambda: Constant(target="high"), "target='high': "),
        (lambda: LinearInSegments(target=1, segments=0), "segments=0: "),
        (lambda: FrontLoaded(target=1, start=0.5), "start=0.5 is under target=1.0"),
        (lambda: FrontLoaded(target=1, start=2, decay_tokens=0), "decay_tokens=0: "),
        (lambda: Table(positions=(1, 2), thresholds=(1.0,)), "2 positions but 1 thresholds"),
        (lambda: Table(positions=(2, 2), thresholds=(1.0, 2.0)), r"must rise strictly, got \(2, 2\)"),
        (lambda: Table(positions=(), thresholds=()), "positions: "),
        (lambda: Soft(beta=0), "beta=0: "),
        (lambda: Soft(beta=-1), "beta=-1: "),
        (lambda: LinearInTokens(target=1, horizon=0), "horizon"),
        (lambda: Hard(beta=0.5), "unknown setting 'beta'"),
    ],
)
def test_wrong_values_are_named_at_construction(wrong, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_the_bases_decide_nothing():
    with pytest.raises(NotImplementedError):
        Schedule().threshold(at())
    with pytest.raises(NotImplementedError):
        Ramp(target=1).progress(at())


@given(st.floats(0, 1), st.integers(1, 30))
def test_expected_attempts_are_those_of_a_geometric_law_that_ends(probability, most):
    chances = [probability * (1 - probability) ** (n - 1) for n in range(1, most)]
    last = (1 - probability) ** (most - 1)
    mean = sum(n * chance for n, chance in enumerate([*chances, last], start=1))
    assert expected_attempts(probability, most) == pytest.approx(mean, rel=1e-6)


@given(st.floats(0, 1), st.integers(0, 30))
def test_a_segment_is_shown_unless_every_attempt_is_rejected(probability, attempts):
    rejected = (1 - probability) ** attempts
    assert shown_chance(probability, attempts) == pytest.approx(1 - rejected, abs=1e-12)


def test_the_chance_of_a_tiny_probability_is_not_lost():
    assert shown_chance(1e-20, 20) == pytest.approx(2e-19)
