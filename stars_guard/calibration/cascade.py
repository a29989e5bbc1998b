"""The numbers of a cascade, from held-out labelled scores: one scale for both parts, and the band.

Use answers that neither reward model was trained on: on those that it was, a reward is too sure of itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.rewards.cascade import mean_of_both

LEAST_OF_A_KIND = 8
"""Fewest answers of each kind, safe and unsafe, that a scale is fitted on."""


@dataclass(frozen=True, slots=True)
class LogOdds:
    """An affine map from a reward to the log-odds that the text is safe, as a part of a cascade has it.

    Attributes:
        offset: the reward at even odds.
        unit: the difference in reward that multiplies the odds by e; over 0.
    """

    offset: float
    unit: float

    def of(self, reward: float) -> float:
        """The log-odds that a text with this reward is safe."""
        return (reward - self.offset) / self.unit


@dataclass(frozen=True, slots=True)
class Band:
    """Bounds of a cascade, and what they do on the texts that they were chosen on.

    Attributes:
        low: scaled reward of the first from which on the second is asked.
        high: the last one at which it is asked.
        asked: share of the texts within.
        changed: share of the texts that are outside and would be decided otherwise by the mean of both.
    """

    low: float
    high: float
    asked: float
    changed: float


def fit_log_odds(rewards: Sequence[float], safe: Sequence[float]) -> LogOdds:
    """The scale of a reward model (Platt, 1999): logistic regression of the labels on its rewards.

    Safe and unsafe answers weigh the same together, however many there are of each: 0 is even odds for a text
    that was as likely to be safe as not before it was read, and does not move with how many of a kind were
    collected.

    Args:
        rewards: of held-out answers.
        safe: how probable it is that each of them is safe, from 0 to 1.

    Raises:
        ConfigurationError: the lists differ in length or hold something unusable, there are too few answers
            of a kind, or the reward is no higher for safe ones than for unsafe ones.
        MissingExtraError: scikit-learn is not installed.
    """
    _check_labelled(rewards, safe)
    center = math.fsum(rewards) / len(rewards)
    spread = math.sqrt(math.fsum((reward - center) ** 2 for reward in rewards) / len(rewards))
    slope, shift = _regression([(reward - center) / (spread or 1.0) for reward in rewards], safe)
    if slope <= 0:
        raise ConfigurationError("the reward is no higher for safe answers than for unsafe ones; use another")
    return LogOdds(offset=center - spread * shift / slope, unit=spread / slope)


def narrowest_band(
    first: Sequence[float],
    second: Sequence[float],
    *,
    share: float = 0.01,
    thresholds: Sequence[float] = (0.0,),
) -> Band:
    """The band with the fewest texts outside of which the first alone decides as the mean of both would.

    Of bands with equally many texts it is the least wide one. It reaches from under the lowest threshold to
    the highest, so that within it every decision is that of the mean.

    Args:
        first: scaled rewards of held-out texts by the part that judges all of them.
        second: those by the other part, in the same order.
        share: largest share of the texts, from 0 to 1, that may be decided otherwise at any threshold.
        thresholds: scaled rewards from which on texts pass, such as the guard's floor and target.

    Raises:
        ConfigurationError: the lists differ in length or hold something unusable, or a number is out of
            place.
    """
    _check_scored(first, second, share, thresholds)
    flips = sorted(
        x
        for x, y in zip(first, second, strict=True)
        if any((x >= t) != (mean_of_both(x, y) >= t) for t in thresholds)
    )
    ordered = sorted(first)

    def band(window: _Window) -> Band:
        asked, kept = (_within(values, window) for values in (ordered, flips))
        return Band(*window, asked / len(ordered), (len(flips) - kept) / len(ordered))

    # Passes are from the threshold on, so what is just under it is decided otherwise, too.
    least = math.nextafter(min(thresholds), -math.inf), max(thresholds)
    bands = map(band, _windows(flips, int(share * len(ordered)), least))
    return min(bands, key=lambda found: (found.asked, found.high - found.low, found.low))


_Window: TypeAlias = tuple[float, float]


def _windows(flips: Sequence[float], dropped: int, least: _Window) -> list[_Window]:
    """The least windows that hold all but ``dropped`` of the rising ``flips``, each widened to ``least``."""
    kept = len(flips) - dropped
    if kept <= 0:
        return [least]
    low, high = least
    return [(min(low, flips[n]), max(high, flips[n + kept - 1])) for n in range(dropped + 1)]


def _within(rising: Sequence[float], window: _Window) -> int:
    return bisect_right(rising, window[1]) - bisect_left(rising, window[0])


def _regression(standard: Sequence[float], safe: Sequence[float]) -> tuple[float, float]:
    """Slope and shift of the log-odds, for rewards about their mean in spreads."""
    with needs_extra("calibrate", "scikit-learn"):
        from sklearn.linear_model import LogisticRegression
    unsafe = [1 - label for label in safe]
    weights = [len(safe) * label / math.fsum(kind) for kind in (safe, unsafe) for label in kind]
    # Its penalty keeps the slope finite where the rewards part the two kinds fully.
    model = LogisticRegression()
    model.fit([[value] for value in standard] * 2, [1] * len(safe) + [0] * len(safe), weights)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _check_labelled(rewards: Sequence[float], safe: Sequence[float]) -> None:
    _check_numbers("rewards", rewards, "labels", safe)
    if not all(0 <= label <= 1 for label in safe):
        raise ConfigurationError(
            "a label is not from 0 to 1; give how probable it is that the answer is safe"
        )
    good = math.fsum(safe)
    if min(good, len(safe) - good) < LEAST_OF_A_KIND:
        raise ConfigurationError(
            f"there are {good:g} safe and {len(safe) - good:g} unsafe answers; give at least "
            f"{LEAST_OF_A_KIND} of each"
        )


def _check_scored(
    first: Sequence[float], second: Sequence[float], share: float, thresholds: Sequence[float]
) -> None:
    _check_numbers("rewards of the first", first, "of the second", second)
    if not first:
        raise ConfigurationError("there are no rewards; score some held-out texts with both parts")
    if not 0 <= share <= 1:
        raise ConfigurationError(f"share={share} must be from 0 to 1")
    if not thresholds or not all(map(math.isfinite, thresholds)):
        raise ConfigurationError(f"thresholds={tuple(thresholds)} must be finite, and at least one")


def _check_numbers(what: str, values: Sequence[float], others: str, matching: Sequence[float]) -> None:
    if len(values) != len(matching):
        raise ConfigurationError(f"there are {len(values)} {what} and {len(matching)} {others}; give as many")
    if not all(map(math.isfinite, (*values, *matching))):
        raise ConfigurationError(f"one of the {what}, or {others}, is not finite")
