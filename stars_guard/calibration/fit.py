"""From sampled answers to settings with a wanted acceptance rate. Pure functions of numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import median, pstdev
from typing import Literal, TypeAlias, get_args

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import (
    Acceptance,
    Best,
    Constant,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Soft,
    Table,
    Threshold,
    shown_chance,
)
from stars_guard.calibration.promises import Pool, Where
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.shown import ShownWish
from stars_guard.errors import ConfigurationError

ScheduleKind: TypeAlias = Literal["constant", "linear_in_tokens", "linear_in_segments", "table"]
KINDS = get_args(ScheduleKind)

FLOOR_QUANTILE = 0.05
"""Share of the rewards that the rule keeps without a floor that is under the floor."""
LEAST_PREFIXES = 8
"""A table's entry is fitted on at least this many prefixes; with fewer, it joins the entry before it."""
_BETA_HALVINGS = 10
"""Steps of a bisection, each of which fits a target."""
_HALVINGS = 28
"""Steps of a bisection, which leave 4e-9 of its bracket."""
_FLOOR_HALVINGS = 10
"""Steps that leave a thousandth of the bracket: finer than a quantile of sampled rewards."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted.

    Attributes:
        acceptance: wanted acceptance rate, between 0 and 1; ``1 / attempts`` for wanted attempts a segment.
        kind: of the threshold schedule.
        alpha: where a ramp starts, 0 at the bare prompt's reward, 1 at the target.
        beta: acceptance temperature, 0 is the hard rule; None takes :func:`spread_beta`.
        shown: how seldom a bad segment is to be shown; then ``beta`` is the highest that may be chosen.

    Raises:
        ConfigurationError: a value is out of range.
    """

    acceptance: float = 0.5
    kind: ScheduleKind = "linear_in_tokens"
    alpha: float = 0.5
    beta: float | None = None
    shown: ShownWish | None = None

    def __post_init__(self) -> None:
        if not 0 < self.acceptance < 1:
            raise ConfigurationError(
                f"acceptance={self.acceptance} must be between 0 and 1; over 1 attempt a segment is 1 / rate"
            )
        if self.kind not in KINDS:
            raise ConfigurationError(
                f"schedule {self.kind!r} cannot be fitted; use one of {', '.join(KINDS)}"
            )
        if self.beta is not None and not 0 <= self.beta < math.inf:
            raise ConfigurationError(f"beta={self.beta} must be 0 or more")
        if self.shown and self.kind != "constant":
            # A ramp may start at the floor, where everything over it passes.
            raise ConfigurationError(
                f"how often a segment is shown holds for a constant threshold, not for {self.kind}"
            )


def fit(pool: Pool, wish: Wish, base: GuardConfig) -> GuardConfig:
    """The settings whose acceptance rate is the wanted one, on the prefixes that they themselves leave.

    Args:
        pool: sampled answers, at least one.
        wish: what is wanted; a table has this acceptance at each position.
        base: gives what is not fitted; threshold, acceptance rule and the exhaustion policy are.

    Returns:
        ``base`` with the target found by bisection, and a floor under which ``FLOOR_QUANTILE`` of the rewards
        are that the rule would keep without one. With the hard rule the rate moves in steps; the nearest
        one is taken, so see :meth:`Pool.promise` for what it is.

    Raises:
        ConfigurationError: there are no answers, or rewards do not differ, or at this acceptance rate no beta
            keeps bad segments as rare as wished.
    """
    return _seldom_shown(pool, wish, base, wish.shown) if wish.shown else _with_floor(pool, wish, base)


def _seldom_shown(pool: Pool, wish: Wish, base: GuardConfig, shown: ShownWish) -> GuardConfig:
    """The settings with the highest beta that keeps the chance; the lower, the nearer to the hard rule."""

    def fitted(beta: float) -> GuardConfig:
        return _with_floor(pool, replace(wish, beta=beta), base)

    def kept(config: GuardConfig) -> bool:
        # By the rule alone: just over the floor a segment should be about as rare as just under it.
        accepted = config.acceptance.probability(shown.reward, config.threshold.target)
        return shown_chance(accepted, config.max_attempts) <= shown.below

    low, high = 0.0, getattr(rule(pool.answers, wish), "beta", 0.0)
    config = fitted(high)
    if kept(config):
        return config
    config = fitted(low)
    if not kept(config):
        raise ConfigurationError(
            f"with an acceptance of {wish.acceptance:.3g} the target is {config.threshold.target:.4g}, so a "
            f"segment of reward {shown.reward:.4g} is shown even by the hard rule; want a lower acceptance "
            "(more attempts), or use a reward that tells such segments from others"
        )
    for _ in range(_BETA_HALVINGS):
        middle = (low + high) / 2
        tried = fitted(middle)
        if kept(tried):
            low, config = middle, tried
        else:
            high = middle
    return config


def _with_floor(pool: Pool, wish: Wish, base: GuardConfig) -> GuardConfig:
    """The settings for a wished acceptance rate, with their floor."""
    base = base.changed(acceptance=rule(pool.answers, wish), exhaustion=Last(), floor=-math.inf)
    first = _fitted(pool, wish, base, _FLOOR_HALVINGS)
    # Once more, since nothing under the floor is kept, and a guard that refuses sees no prefixes beyond that.
    return _fitted(pool, wish, first.changed(exhaustion=_forcing(wish), floor=_floor(pool, wish, first)))


def _floor(pool: Pool, wish: Wish, config: GuardConfig) -> float:
    """The floor, low enough that the wanted rate is within reach of what is over it."""
    wheres = _places(pool, config.segments.max_tokens) if wish.kind == "table" else [None]

    def in_reach(floor: float) -> bool:
        lowest = config.changed(threshold=Constant(target=floor), floor=floor)
        return all(pool.acceptance(lowest, where) >= wish.acceptance for where in wheres)

    quantiles = (kept_quantile(pool, config, share) for share in (FLOOR_QUANTILE, FLOOR_QUANTILE / 5, 0.0))
    floors = (min(quantile, config.threshold.target) for quantile in quantiles)
    return next((floor for floor in floors if in_reach(floor)), -math.inf)


def _forcing(wish: Wish) -> Best:
    """What is forced; a segment that is to be shown seldom is not."""
    return Best(floor=math.nextafter(wish.shown.reward, math.inf)) if wish.shown else Best()


def _fitted(pool: Pool, wish: Wish, base: GuardConfig, halvings: int = _HALVINGS) -> GuardConfig:
    if wish.kind == "table":
        return base.changed(threshold=_table(pool, wish, base, halvings))
    return _solved(pool, wish.acceptance, base, _family(pool, wish, base), halvings)


def rule(answers: Sequence[SampledAnswer], wish: Wish) -> Acceptance:
    """The acceptance rule that is wished for; :func:`spread_beta` where the wish leaves beta open.

    Raises:
        ConfigurationError: there are no answers, or as :func:`spread_beta`.
    """
    if not answers:
        raise ConfigurationError("there are no sampled answers to fit; give at least one prompt")
    beta = spread_beta(answers) if wish.beta is None else wish.beta
    return Soft(beta=beta) if beta else Hard()


def spread_beta(answers: Sequence[SampledAnswer]) -> float:
    """The default ``beta``: half the median standard deviation of rewards within a prefix.

    The rule then tells apart candidates that differ by what candidates of one prefix usually differ by. The
    mean stands in where the median is 0.

    Raises:
        ConfigurationError: the candidates of each prefix all have the same reward.
    """
    spreads = [pstdev(position.rewards) for answer in answers for position in answer.positions]
    beta = (median(spreads) or sum(spreads) / len(spreads)) / 2
    if beta <= 0:
        raise ConfigurationError(
            "the reward gives all candidates of a prefix the same value, so no threshold can choose "
            "among them; use a reward that reads the answer"
        )
    return beta


def kept_quantile(pool: Pool, config: GuardConfig, share: float = FLOOR_QUANTILE) -> float:
    """The reward under which that share of kept candidates is.

    At each prefix the rule keeps a candidate in proportion to its acceptance probability.

    Args:
        pool: sampled answers, at least one.
        config: the settings whose rule keeps them.
        share: between 0 and 1.
    """
    kept: list[tuple[float, float]] = []
    for weight, _, position, likely in pool.weighed(config):
        total = sum(likely) or 1.0
        pairs = zip(position.rewards, likely, strict=True)
        kept += [(reward, weight * chance / total) for reward, chance in pairs]
    kept.sort()
    reached = list(accumulate(weight for _, weight in kept))
    return next(
        reward for (reward, _), mass in zip(kept, reached, strict=True) if mass >= share * reached[-1]
    )


def _family(pool: Pool, wish: Wish, base: GuardConfig) -> Callable[[float], Threshold]:
    """The schedule of the wanted kind, by its target."""
    longest = max(answer.max_tokens for answer in pool.answers)
    segments = math.ceil(longest / base.segments.max_tokens)
    kinds: dict[str, Callable[[float], Threshold]] = {
        "constant": lambda target: Constant(target=target),
        "linear_in_tokens": lambda target: LinearInTokens(target=target, alpha=wish.alpha, horizon=longest),
        "linear_in_segments": lambda target: LinearInSegments(
            target=target, alpha=wish.alpha, segments=segments
        ),
    }
    return kinds[wish.kind]


def _table(pool: Pool, wish: Wish, base: GuardConfig, halvings: int) -> Table:
    """A threshold per stretch of one longest segment, each with the wanted acceptance, from first to last."""
    positions: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    width = base.segments.max_tokens
    for (_, end), here in zip(_stretches(pool, width), _places(pool, width), strict=True):
        positions = (*positions, end)

        def family(
            target: float, ends: tuple[int, ...] = positions, before: tuple[float, ...] = thresholds
        ) -> Threshold:
            return Table(positions=ends, thresholds=(*before, target))

        solved = _solved(pool, wish.acceptance, base, family, halvings, here)
        thresholds = (*thresholds, solved.threshold.target)
    return Table(positions=positions, thresholds=thresholds)


def _places(pool: Pool, width: int) -> list[Where]:
    """The prefixes of each stretch."""

    def within(start: int, end: int) -> Where:
        return lambda position: start <= position.prefix_tokens < end

    return [within(start, end) for start, end in _stretches(pool, width)]


def _stretches(pool: Pool, width: int) -> list[tuple[int, int]]:
    """Stretches of tokens, each with the beginnings of enough segments in it."""
    positions = (position for answer in pool.answers for position in answer.positions)
    counts = Counter(position.prefix_tokens // width for position in positions)
    stretches: list[tuple[int, int]] = []
    for number in sorted(counts):
        if stretches and counts[number] < LEAST_PREFIXES:
            stretches[-1] = (stretches[-1][0], (number + 1) * width)
        else:
            stretches.append((number * width, (number + 1) * width))
    return stretches


def _solved(
    pool: Pool,
    wanted: float,
    base: GuardConfig,
    family: Callable[[float], Threshold],
    halvings: int,
    where: Where | None = None,
) -> GuardConfig:
    """Bisection; the rate falls as the target rises."""

    def rate(target: float) -> float:
        # Not validated: the search looks under the floor, too, where every target is as good as the floor.
        return pool.acceptance(base.model_copy(update={"threshold": family(target)}), where)

    low, high = _bracket(pool.answers, rate, wanted)
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) >= wanted else (low, middle)
    solved = max(base.lowest, min((low, high), key=lambda target: abs(rate(target) - wanted)))
    return base.changed(threshold=family(solved))


def _bracket(
    answers: Sequence[SampledAnswer], rate: Callable[[float], float], wanted: float
) -> tuple[float, float]:
    """Targets with a higher and a lower rate than wanted."""
    rewards = [reward for answer in answers for position in answer.positions for reward in position.rewards]
    low, high = min(rewards), max(rewards)
    step = max(high - low, 1e-6)
    for _ in range(_HALVINGS):
        if rate(low) >= wanted and rate(high) < wanted:
            return low, high
        low, high = (
            (low if rate(low) >= wanted else low - step),
            (high if rate(high) < wanted else high + step),
        )
        step *= 2
    raise ConfigurationError(f"no target gives an acceptance of {wanted}; the rewards are too far apart")
