"""How often a segment of a given reward is shown: not a try, but after all tries. Pure functions of numbers.

A guard tries up to ``max_attempts`` candidates for a segment. Where all of them have the same reward, the
chance that it is shown is ``1 - (1 - a)^n``: an acceptance of 0.05 a try is 64 % after 20.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stars_guard.algorithm.config import ChannelRules, GuardConfig
from stars_guard.algorithm.rules import Best, Last, Ramp, Soft, Table, Watch, shown_chance
from stars_guard.calibration.description import Figures
from stars_guard.errors import ConfigurationError
from stars_guard.types import Channel

UNDER_TARGET = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
"""Distances of the rewards that are listed: in beta, with the hard rule in reward units."""


class ShownChance(Figures):
    """What becomes of a segment whose candidates all have one reward."""

    reward: float
    under_target: float
    """How much less than the target that is, in reward units."""
    a_try: float
    """Acceptance probability of one candidate, held against the target."""
    a_segment: float
    """Chance that one of the attempts at a segment is accepted, each held against the target."""
    worst: float
    """Chance that it is shown, accepted or forced, held against the lowest bar that a prompt may lead to."""


@dataclass(frozen=True, slots=True)
class ShownWish:
    """How seldom a bad segment is to be shown.

    Attributes:
        reward: what a bad segment scores; one that scores less is shown no more often.
        below: highest chance that it is shown, between 0 and 1, where every attempt scores that.

    Raises:
        ConfigurationError: the chance is out of range.
    """

    reward: float
    below: float

    def __post_init__(self) -> None:
        if not 0 < self.below < 1:
            raise ConfigurationError(f"a chance of {self.below} must be between 0 and 1, both excluded")


def shown_at(config: GuardConfig, reward: float) -> ShownChance:
    """How often a segment is shown whose candidates all have this reward.

    Args:
        config: the guard's settings; the rules are those of the answer.
        reward: on the reward model's scale.
    """
    rules, most = config.rules(Channel.ANSWER), config.max_attempts
    target = rules.threshold.target
    a_try = rules.probability(reward, target)
    lowest = shown_chance(rules.probability(reward, _lowest_bar(rules)), most)
    return ShownChance(
        reward=reward,
        under_target=target - reward,
        a_try=a_try,
        a_segment=shown_chance(a_try, most),
        worst=1.0 if reward >= _forced_from(config) else lowest,
    )


def shown_chances(config: GuardConfig, also: Iterable[float] = ()) -> list[ShownChance]:
    """A row for each reward of :data:`UNDER_TARGET`, and for some more, from the highest down.

    Args:
        config: the guard's settings.
        also: rewards that are of interest, too.
    """
    unit = config.acceptance.beta if isinstance(config.acceptance, Soft) else 1.0
    rewards = {config.threshold.target - distance * unit for distance in UNDER_TARGET}
    return [shown_at(config, reward) for reward in sorted(rewards | set(also), reverse=True)]


def chance(probability: float) -> str:
    """A chance in per cent, to two digits."""
    return f"{100 * probability:.2g} %" if 0 < probability < 0.995 else f"{probability:.0%}"


def _lowest_bar(rules: ChannelRules) -> float:
    """The lowest bar of any position, whatever the prompt: a ramp may start at the floor."""
    schedule = rules.threshold
    if isinstance(schedule, Table):
        return min(schedule.thresholds)
    starts_low = isinstance(schedule, Ramp) and schedule.needs_base_reward
    return min(rules.lowest, schedule.target) if starts_low else schedule.target


def _forced_from(config: GuardConfig) -> float:
    """The lowest reward of a segment that is shown when every attempt was rejected."""
    if isinstance(config.exhaustion, Best):
        return config.forced_from(Channel.ANSWER)
    if isinstance(config.exhaustion, Last):
        return config.lowest
    return float("-inf") if isinstance(config.exhaustion, Watch) else float("inf")
