"""A cascade: a cheap reward model judges every text, a dear one only those of which the first is unsure.

With ``x`` and ``y`` for the scaled rewards of the first and the second, the cascade's reward is

    r(x, y) = x                                   x < low or x > high: the second is not asked
    r(x, y) = min(high, max(low, (x + y) / 2))    low <= x <= high

The mean, since errors of two reward models that read different things partly cancel in it. Within the band,
since the law of the guard compares texts by their rewards: so ``r`` never falls as ``x`` or ``y`` rises, also
where ``x`` enters or leaves the band, and every threshold over ``low`` and up to ``high`` is kept exactly by
those texts whose mean keeps it. Where ``x`` enters the band, and where it leaves it, ``r`` may jump, upwards
and by no more than the width of the band; elsewhere it is continuous.
"""

from __future__ import annotations

from collections.abc import Mapping

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.combine import Combination, Part, Parts, finite_setting


class Cascade(Combination):
    """Two looks, one price: the second part is asked only about texts whose first reward is in a band.

    One call to each, at most, for all texts together. A cascade is a reward like any other, one number for
    prompt and text, so the law of the guard holds as it is, with this ``r``. A failure of the second is one
    of the scoring: no text passes on the word of the first alone, where it was unsure. A text that the second
    judged has it among its ``Reward.components``, also in the trace: count those to know what it costs.

    Args:
        parts: two reward models by name, in the order in which they are asked. Give them as :class:`Part` to
            bring them onto one scale, as ``stars_guard.calibration.fit_log_odds`` measures it.
        low: scaled reward of the first from which on the second is asked.
        high: the last one at which it is asked. ``stars_guard.calibration.narrowest_band`` finds both.

    Raises:
        ConfigurationError: a part, a name or a bound is unusable.
    """

    def __init__(self, parts: Parts, *, low: float, high: float) -> None:
        super().__init__(parts)
        if len(self._parts) != 2:
            raise ConfigurationError(f"a cascade has {len(self._parts)} parts; give two, the cheap one first")
        self._low, self._high = finite_setting("low", low), finite_setting("high", high)
        if self._low > self._high:
            raise ConfigurationError(f"low={low!r} is over high={high!r}; exchange them")

    def _needs(self, name: str, part: Part, scaled: Mapping[str, float]) -> bool:
        return all(self._low <= value <= self._high for value in scaled.values())

    def _value(self, scaled: Mapping[str, float]) -> float:
        first, *seconds = scaled.values()
        return within_band(first, *seconds, low=self._low, high=self._high) if seconds else first


def within_band(first: float, second: float, *, low: float, high: float) -> float:
    """The reward of a text that both have judged.

    Args:
        first: scaled reward of the first, in the band.
        second: scaled reward of the second.
        low: lower end of the band.
        high: its upper end.
    """
    return min(high, max(low, mean_of_both(first, second)))


def mean_of_both(first: float, second: float) -> float:
    """The mean of two scaled rewards, however large they are."""
    return first / 2 + second / 2
