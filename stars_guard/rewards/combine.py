"""Several reward models as one: a weighted sum, the minimum, or one subject to a floor on another.

Parts are asked in the order given, so put cheap ones first: a part is asked only about the texts whose value
it can still change, which is decided by exact bounds. Early exit therefore never changes a value; it only
leaves the parts that were not asked out of ``Reward.components``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.types import Channel, Named, Reward


@dataclass(frozen=True, slots=True)
class Part:
    """A reward model with what is known of its scale; it counts as ``(value - offset) / unit``.

    Attributes:
        reward: the reward model.
        offset: the raw reward that counts as 0.
        unit: the raw difference that counts as 1; over 0.
        range: lowest and highest raw reward; either end may be infinite. It is what early exit relies on, so
            a reward outside it is a :class:`stars_guard.errors.ScoringError`.

    Raises:
        ConfigurationError: not a reward model, or a number is out of place.
    """

    reward: RewardModel
    offset: float = 0.0
    unit: float = 1.0
    range: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if not isinstance(self.reward, RewardModel):
            raise ConfigurationError(
                f"{type(self.reward).__name__} is no reward model; pass one with name, score and release"
            )
        finite_setting("offset", self.offset)
        if finite_setting("unit", self.unit) <= 0:
            raise ConfigurationError(f"unit={self.unit!r} must be over 0; to turn a cost round, negate it")
        if len(self.range) != 2 or not self.range[0] < self.range[1]:
            raise ConfigurationError(f"range={self.range!r} must be (lowest, highest), lowest under highest")

    def scaled(self, value: float) -> float:
        """A raw reward on the common scale. Rounding keeps the order, so bounds stay bounds."""
        return (value - self.offset) / self.unit

    def checked(self, value: float) -> float:
        """The scaled reward.

        Raises:
            ScoringError: it is outside the declared range.
        """
        low, high = self.range
        if not low <= value <= high:
            raise ScoringError(
                f"{self.reward.name} returned {value}, outside its declared range {low} to {high}; "
                "correct the range"
            )
        return self.scaled(value)


Parts: TypeAlias = Mapping[str, RewardModel | Part]
"""Reward models by the name that their scores get in the trace; a bare one counts as it is."""


@dataclass(slots=True)
class _Tally:
    """What is known of one text so far."""

    scaled: dict[str, float] = field(default_factory=dict)
    components: dict[str, float] = field(default_factory=dict)
    truncated_tokens: int = 0

    def add(self, name: str, part: Part, reward: Reward) -> None:
        self.scaled[name] = part.checked(reward.value)
        self.components[name] = reward.value
        self.components |= {f"{name}.{inner}": value for inner, value in reward.components.items()}
        self.truncated_tokens = max(self.truncated_tokens, reward.truncated_tokens)


class Combination(Named):
    """Asks the parts in order, each in one call about the texts that it is still needed for.

    Args:
        parts: reward models by name.

    Raises:
        ConfigurationError: a part or a name is unusable.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = _checked_parts(parts)

    @property
    def name(self) -> str:
        """The kind and the parts: ``Minimum(veto=veto, safe=toxic-bert)``."""
        inside = ", ".join(f"{name}={part.reward.name}" for name, part in self._parts.items())
        return f"{type(self).__name__}({inside})"

    @property
    def parts(self) -> list[RewardModel]:
        """The reward models, in the order in which they are asked."""
        return [part.reward for part in self._parts.values()]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One :class:`Reward` per request; ``truncated_tokens`` is the largest of the parts asked.

        Raises:
            ScoringError: a part failed, left its range, or the result is too large for a number.
        """
        tallies = [_Tally() for _ in requests]
        for name, part in self._parts.items():
            needed = [n for n, tally in enumerate(tallies) if self._needs(name, part, tally.scaled)]
            if needed:
                rewards = score_checked(part.reward, [requests[n] for n in needed])
                for n, reward in zip(needed, rewards, strict=True):
                    tallies[n].add(name, part, reward)
        return [self._reward(tally) for tally in tallies]

    def release(self, run_id: str) -> None:
        """Tell every part that the answer ``run_id`` is over, even when one raises."""
        with ExitStack() as stack:
            for part in self._parts.values():
                stack.callback(part.reward.release, run_id)

    def _reward(self, tally: _Tally) -> Reward:
        value = self._value(tally.scaled)
        if not math.isfinite(value):
            raise ScoringError(f"{self.name}: the combined reward is {value}; rescale the parts")
        return Reward(value, tally.truncated_tokens, tally.components)

    def _needs(self, name: str, part: Part, scaled: Mapping[str, float]) -> bool:
        """Whether a part can still change the value, given the scaled rewards so far."""
        return True

    def _value(self, scaled: Mapping[str, float]) -> float:
        raise NotImplementedError


class WeightedSum(Combination):
    """``sum of weight * (value - offset) / unit``. Every part is asked: each changes the value.

    Args:
        parts: reward models by name; give them as :class:`Part` to bring them onto one scale.
        weights: one per part, by the same names. A weight of 0 scores a part for the trace alone.

    Raises:
        ConfigurationError: a part, a name or a weight is unusable.
    """

    def __init__(self, parts: Parts, weights: Mapping[str, float]) -> None:
        super().__init__(parts)
        if set(weights) != set(self._parts):
            raise ConfigurationError(
                f"weights are for {sorted(map(str, weights))}, parts are {sorted(self._parts)}; name the same"
            )
        self._weights = {name: finite_setting(f"weight of {name}", weights[name]) for name in self._parts}

    def _value(self, scaled: Mapping[str, float]) -> float:
        return math.fsum(weight * scaled[name] for name, weight in self._weights.items())


class Minimum(Combination):
    """The lowest of the parts, each counted as ``(value - offset) / unit``.

    A part is not asked about a text whose minimum so far is at or under the part's own lowest reward.

    Args:
        parts: reward models by name; declare a ``range`` in :class:`Part` to make early exit possible.

    Raises:
        ConfigurationError: a part or a name is unusable.
    """

    def _needs(self, name: str, part: Part, scaled: Mapping[str, float]) -> bool:
        return min(scaled.values(), default=math.inf) > part.scaled(part.range[0])

    def _value(self, scaled: Mapping[str, float]) -> float:
        return min(scaled.values())


class Constrained(Combination):
    """Maximise one reward subject to a floor on another; both count as ``(value - offset) / unit``.

    At or over the floor the value is ``max(objective, lowest)``. Under it the value is
    ``lowest - (floor - constraint)``, and at most the next number under ``lowest``: so every text under the
    floor scores under every text that keeps it, and further under the floor is never better. Nothing is
    squashed; objectives under ``lowest`` merely count as equal. The objective is not asked about texts under
    the floor.

    A soft acceptance rule accepts by reward differences: put ``lowest`` many ``beta`` under the target (40:
    at most exp(-40)), and set ``Best.floor`` at ``lowest`` or over it, so that nothing under the floor is
    accepted or forced.

    Args:
        parts: two reward models by name, the objective and the constraint. The constraint is asked first.
        maximise: name of the objective; the other part is the constraint.
        floor: what the constraint must reach.
        lowest: lowest objective that is told apart.

    Raises:
        ConfigurationError: a part, a name or a number is unusable.
    """

    def __init__(self, parts: Parts, *, maximise: str, floor: float, lowest: float) -> None:
        super().__init__(parts)
        if len(self._parts) != 2 or maximise not in self._parts:
            raise ConfigurationError(
                f"maximise={maximise!r} with parts {list(self._parts)}; give two parts and name one of them"
            )
        objective = self._parts.pop(maximise)
        (self._constraint,) = self._parts
        self._parts[maximise] = objective
        self._objective = maximise
        self._floor = finite_setting("floor", floor)
        self._lowest = finite_setting("lowest", lowest)

    def _needs(self, name: str, part: Part, scaled: Mapping[str, float]) -> bool:
        return name == self._constraint or scaled[self._constraint] >= self._floor

    def _value(self, scaled: Mapping[str, float]) -> float:
        constraint = scaled[self._constraint]
        if constraint >= self._floor:
            return max(scaled[self._objective], self._lowest)
        # A shortfall too small for the sum to show must still leave the text under the others.
        return min(self._lowest - (self._floor - constraint), math.nextafter(self._lowest, -math.inf))


def _checked_parts(parts: Parts) -> dict[str, Part]:
    if not isinstance(parts, Mapping) or not parts:
        raise ConfigurationError('there are no parts; pass a mapping such as {"safe": reward_model}')
    for name in parts:
        # A dot marks nested components; channel names are what the trace calls the channels' own rewards.
        if not isinstance(name, str) or not name.strip() or "." in name or name in list(Channel):
            raise ConfigurationError(
                f"{name!r} cannot name a part; use a word without a dot, not answer, reasoning or tool"
            )
    return {name: part if isinstance(part, Part) else Part(part) for name, part in parts.items()}


def finite_setting(what: str, value: object) -> float:
    """A setting as a number.

    Args:
        what: the setting's name.
        value: its value.

    Raises:
        ConfigurationError: it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigurationError(f"{what}={value!r} must be a finite number")
    return float(value)
