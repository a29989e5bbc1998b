"""What fitting promises is what the law gives, by enumeration of a model given as a table."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Table,
)
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.courses import continued, product_means
from stars_guard.calibration.draw import DrawPlan, draw_answers
from stars_guard.calibration.fit import Wish, _bracket, fit, kept_quantile, spread_beta
from stars_guard.calibration.promises import Drawn, Pool, promise
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from tests.support.calibration_law import MAX_TOKENS, MODEL, REWARD, guarded_rate, unguarded_rate

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

PLAN = DrawPlan(
    sampling=SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, top_p=1.0, seed=3),
    segments=FixedLength(max_tokens=2),
    candidates=6,
    samples_per_prompt=700,
)
BASE = GuardConfig(
    threshold=Constant(target=0.3), acceptance=Soft(beta=0.5), segments=PLAN.segments, max_attempts=12
)
RATE = pytest.approx


def answers(plan: DrawPlan = PLAN) -> list[SampledAnswer]:
    return list(draw_answers(MODEL, REWARD, [Prompt.of("x")], plan))


UNGUARDED = answers()
POOL = Pool(Drawn(UNGUARDED))


def made(*rewards: tuple[float, ...], max_tokens: int = 8, width: int = 4) -> SampledAnswer:
    """An answer with these rewards at its positions."""
    positions = [
        SampledPosition(
            segment=k, prefix_tokens=k * width, tokens=((k + 1) * width,) * len(own), rewards=own, chosen=0
        )
        for k, own in enumerate(rewards)
    ]
    return SampledAnswer(
        prompt=0, seed=0, max_tokens=max_tokens, base_reward=0.0, positions=tuple(positions), finished=False
    )


@pytest.mark.parametrize(
    "config",
    [
        BASE,
        BASE.changed(acceptance=Hard()),
        BASE.changed(threshold=LinearInTokens(target=0.9, alpha=0.25)),
        BASE.changed(threshold=LinearInSegments(target=0.6, segments=2), max_attempts=4),
    ],
    ids=["soft", "hard", "ramp in tokens", "ramp in segments"],
)
def test_the_promise_on_the_models_own_prefixes_is_the_law(config: GuardConfig) -> None:
    said, true = promise(UNGUARDED, config), unguarded_rate(config)
    assert said.acceptance == RATE(true.acceptance, abs=0.012)
    assert said.attempts == RATE(true.attempts, rel=0.03)
    assert said.forced == RATE(true.forced, abs=0.015)


@pytest.mark.parametrize("target", [0.3, 0.8])
def test_the_promise_on_guarded_prefixes_is_the_law_and_another_one(target: float) -> None:
    # With as many candidates as attempts, a draw goes on as the guard does, exhaustion included.
    config = BASE.changed(threshold=Constant(target=target), max_attempts=6, exhaustion=Best(floor=-99))
    said = promise(answers(PLAN.changed(config=config)), config).acceptance
    assert said == RATE(guarded_rate(config).acceptance, abs=0.012)
    assert guarded_rate(config).acceptance != RATE(unguarded_rate(config).acceptance, abs=0.03)


@pytest.mark.parametrize("floor", [-99.0, 0.4])
@pytest.mark.parametrize("rule", [Soft(beta=0.5), Hard()], ids=["soft", "hard"])
def test_prefixes_are_weighed_as_the_guard_would_leave_them(rule: Soft | Hard, floor: float) -> None:
    """Answers of another guard tell what this one does; those of the model alone nearly so."""
    config = BASE.changed(
        threshold=Constant(target=0.5), acceptance=rule, max_attempts=6, exhaustion=Best(floor=floor)
    )
    true = guarded_rate(config)
    assert true.acceptance > unguarded_rate(config).acceptance + 0.03
    near, far = (
        config.changed(threshold=Constant(target=one), exhaustion=Best(floor=min(floor, one)))
        for one in (0.4, 0.2)
    )
    drawn = [Drawn(answers(PLAN.changed(config=one, round=n)), one) for n, one in ((1, near), (2, far))]
    for pool, error in ((Pool(drawn[0]), 0.015), (Pool(*drawn), 0.02), (Pool(Drawn(UNGUARDED)), 0.05)):
        said = pool.promise(config)
        assert said.acceptance == RATE(true.acceptance, abs=error)
        assert said.forced == RATE(true.forced, abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "linear_in_tokens", "linear_in_segments", "table"])
@pytest.mark.parametrize("wanted", [0.3, 0.6])
def test_the_fitted_settings_have_the_wanted_rate(kind: str, wanted: float) -> None:
    config = fit(POOL, Wish(acceptance=wanted, kind=kind), BASE)  # type: ignore[arg-type]
    assert config.threshold.kind == kind
    # A table is fitted stretch by stretch, each continued by itself.
    assert POOL.promise(config).acceptance == RATE(wanted, abs=0.01 if kind == "table" else 1e-6)
    assert POOL.acceptance(config) == POOL.promise(config).acceptance
    # The model's own answers, with few candidates, are weighed too evenly; the next round mends that.
    assert guarded_rate(config).acceptance == RATE(wanted, abs=0.06)
    again = Pool(Drawn(answers(PLAN.changed(config=config, round=1)), config))
    refitted = fit(again, Wish(acceptance=wanted, kind=kind), BASE)  # type: ignore[arg-type]
    # At low rates there are tries beyond the candidates drawn, and what they bring is guessed with caution.
    assert guarded_rate(refitted).acceptance == RATE(wanted, abs=0.02 if wanted == 0.6 else 0.05)


def test_a_table_has_the_same_rate_at_each_position() -> None:
    table = fit(POOL, Wish(acceptance=0.5, kind="table"), BASE)
    assert isinstance(table.threshold, Table)
    assert table.threshold.positions == (2, 4)
    for segment in (0, 1):
        rate = POOL.acceptance(table, lambda position, segment=segment: position.segment == segment)
        assert rate == RATE(0.5, abs=1e-6)


def test_a_stretch_with_few_prefixes_joins_the_one_before() -> None:
    several = Pool(Drawn([made((0.0, 1.0), (5.0, 6.0)), *[made((0.0, 1.0))] * 9]))
    table = fit(several, Wish(kind="table", beta=0.5), BASE.changed(segments=FixedLength(max_tokens=4)))
    assert isinstance(table.threshold, Table)
    assert table.threshold.positions == (8,)


def test_the_hard_rule_takes_the_nearest_rate() -> None:
    own = Pool(Drawn([made((0.0, 1.0, 2.0, 3.0))]))
    config = fit(own, Wish(acceptance=0.55, kind="constant", beta=0), BASE.changed(max_attempts=1))
    assert config.acceptance == Hard()
    assert own.promise(config).acceptance == RATE(0.5)


def test_beta_is_half_the_median_spread_within_prefixes() -> None:
    assert spread_beta([made((0.0, 2.0), (0.0, 4.0)), made((0.0, 20.0))]) == 1.0
    assert spread_beta([made((0.0, 4.0), (1.0, 1.0), (1.0, 1.0))]) == RATE(1 / 3)
    assert fit(POOL, Wish(), BASE).acceptance == Soft(beta=spread_beta(UNGUARDED))


def test_the_floor_is_a_low_quantile_of_what_is_kept() -> None:
    own = Pool(Drawn([made(tuple(float(n) for n in range(100)))]))
    config = BASE.changed(threshold=Constant(target=50), acceptance=Hard())
    assert kept_quantile(own, config, share=0.1) == 55.0
    impossible = BASE.changed(threshold=Constant(target=5000), acceptance=Hard())
    assert kept_quantile(own, impossible) == 0.0
    fitted = fit(POOL, Wish(), BASE.changed(exhaustion=Last()))
    assert isinstance(fitted.exhaustion, Best)
    assert fitted.floor is not None
    assert fitted.floor <= fitted.threshold.target


def test_the_error_is_that_of_other_prompts() -> None:
    """Each prompt has one prefix of its own kind: all candidates are accepted, or none is."""
    config = BASE.changed(threshold=Constant(target=0), acceptance=Hard(), max_attempts=2)
    kinds = [made((1.0, 1.0)), made((-1.0, -1.0))]
    own = [one.model_copy(update={"prompt": n}) for n, one in enumerate(kinds * 8)]
    found = Pool(Drawn(own)).promise(config)
    # Half of the segments take one attempt and are accepted, half take two and are not: 1 in 3.
    assert (found.acceptance, found.attempts, found.forced) == (RATE(1 / 3), RATE(1.5), RATE(0.5))
    without = [7 / (7 + 16), 8 / (8 + 14)] * 8
    mean = sum(without) / 16
    assert found.standard_error == RATE(math.sqrt(15 / 16 * sum((one - mean) ** 2 for one in without)))
    assert Pool(Drawn(own[:1])).promise(config).standard_error == 0
    assert promise(own, config) == found


def test_what_ends_the_answer_leaves_no_prefixes() -> None:
    hopeless = Pool(Drawn([made((-1.0, -1.0), (1.0, 1.0)), made((1.0, 1.0), (1.0, 1.0))]))
    config = BASE.changed(threshold=Constant(target=0), acceptance=Hard(), max_attempts=2)
    for policy, weights in (
        (Last(), [1.0, 0.0, 1.0, 1.0]),
        (Best(floor=-2.0), [1.0, 1.0, 1.0, 1.0]),
        (Best(floor=-0.5), [1.0, 0.0, 1.0, 1.0]),
        (Refuse(), [1.0, 0.0, 1.0, 1.0]),
        (Raise(), [1.0, 0.0, 1.0, 1.0]),
    ):
        found = [one.weight for one in hopeless.weighed(config.changed(exhaustion=policy))]
        assert found == weights


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ConfigurationError, match="no sampled answers"):
        fit(Pool(Drawn([])), Wish(), BASE)
    with pytest.raises(ConfigurationError, match="same value"):
        fit(Pool(Drawn([made((1.0, 1.0))])), Wish(), BASE)
    for wrong in ({"acceptance": 1.0}, {"kind": "front_loaded"}, {"beta": -1.0}, {"beta": math.nan}):
        with pytest.raises(
            ConfigurationError, match=next(iter(wrong)) if "kind" not in wrong else "schedule"
        ):
            Wish(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_equal_values_have_powers_as_product_means(values: list[float]) -> None:
    means = product_means(values)
    assert means[0] == 1
    assert means[1] == RATE(sum(values) / len(values))
    assert means[-1] == RATE(math.prod(values))
    assert product_means([values[0]] * 5) == RATE([values[0] ** j for j in range(6)])


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.integers(2, 8))
def test_a_sequence_is_continued_as_one_of_means_of_powers_can_be(a: float, b: float, known: int) -> None:
    moments = [1.0]
    for j in range(known):
        moments.append(moments[-1] * (a + j) / (a + b + j))
    made = continued(moments, 20)
    assert made[: known + 1] == moments
    leaving = [1 - after / before for before, after in pairwise(made)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(leaving))
    assert all(0 <= one <= 1 for one in made)


def test_continuing_at_the_ends() -> None:
    assert continued([1.0, 1.0, 1.0], 4) == [1.0] * 5
    assert continued([1.0, 0.0, 0.0], 4) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert continued([1.0, 0.5], 3) == RATE([1.0, 0.5, 0.25, 0.125])
    assert continued([1.0, 0.5, 0.25], 4) == RATE([1.0, 0.5, 0.25, 0.125, 0.0625])
    assert continued([1.0, 0.5, 0.2], 1) == [1.0, 0.5]


def test_few_candidates_do_not_bias_the_attempts() -> None:
    """``1 / p`` of each prefix is far off with few candidates, and endless where all were rejected."""
    few = answers(PLAN.changed(candidates=3, samples_per_prompt=2000))
    exact = BASE.changed(acceptance=Hard(), max_attempts=3)
    assert promise(few, exact).acceptance == RATE(unguarded_rate(exact).acceptance, abs=0.015)
    guessed = BASE.changed(acceptance=Hard(), max_attempts=20)
    assert promise(few, guessed).acceptance == RATE(unguarded_rate(guessed).acceptance, abs=0.07)


def test_targets_are_looked_for_beyond_the_rewards() -> None:
    own = Pool(Drawn([made((0.0, 1.0))]))
    config = fit(own, Wish(acceptance=0.05, kind="constant", beta=20), BASE.changed(max_attempts=40))
    assert config.threshold.target > 20
    assert own.promise(config).acceptance == RATE(0.05, abs=1e-6)
    with pytest.raises(ConfigurationError, match="no target gives an acceptance"):
        _bracket(own.answers, lambda target: 0.0, 0.5)
