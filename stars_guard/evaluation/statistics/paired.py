"""Differences between two methods that answered the same prompts: an interval and a test, both paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias

import numpy as np

from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.settings import StoredRecord

ByPrompt: TypeAlias = Mapping[str, Sequence[float]]
"""Values of the answers to each prompt, by the prompt's id."""

_ENUMERATED = 12
"""Prompts that differ, up to which all signs are tried and the test is exact."""


class Difference(StoredRecord):
    """A mean difference over prompts, its interval of 95 %, and how likely chance alone would make it."""

    value: float
    """Mean over prompts of the method's mean less the other's."""
    low: float
    high: float
    chance: float
    """Two-sided p-value of the sign-flip test."""
    spread: float
    """Standard deviation of the differences over prompts."""
    prompts: int
    """Prompts that both answered."""

    @property
    def estimate(self) -> MeanEstimate:
        """The difference and its interval alone."""
        return MeanEstimate(value=self.value, low=self.low, high=self.high, prompts=self.prompts)


def paired_difference(
    values: ByPrompt, others: ByPrompt, seed: int, resamples: int = 2000, flips: int = 10_000
) -> Difference | None:
    """How a method differs from another on the prompts that both answered; None where there are none.

    Args:
        values: of the method.
        others: of the one that it is compared with.
        seed: of resampling and of the signs.
        resamples: how often prompts are drawn anew for the interval.
        flips: random signs, where there are too many prompts to try all.
    """
    shared = [prompt for prompt in values if values[prompt] and others.get(prompt)]
    if not shared:
        return None
    differences = np.array([np.mean(values[prompt]) - np.mean(others[prompt]) for prompt in shared])
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(differences), (resamples, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(
        value=float(differences.mean()),
        low=float(low),
        high=float(high),
        chance=_sign_flip_chance(differences, random, flips),
        spread=float(differences.std(ddof=1)) if len(differences) > 1 else 0.0,
        prompts=len(differences),
    )


def _sign_flip_chance(differences: np.ndarray, random: np.random.Generator, flips: int) -> float:
    """Share of sign patterns whose mean is as far from 0 as what was seen.

    Where methods do not differ, each prompt's difference might as well have had the other sign.
    """
    unequal = differences[differences != 0]
    if len(unequal) <= _ENUMERATED:
        signs = np.array(list(product([-1, 1], repeat=len(unequal))))
        # The pattern that was seen is among them.
        return float(np.mean(_as_far(signs, unequal)))
    signs = random.choice([-1, 1], (flips, len(unequal)))
    return float((np.sum(_as_far(signs, unequal)) + 1) / (flips + 1))


def _as_far(signs: np.ndarray, differences: np.ndarray) -> np.ndarray:
    sums = np.abs(signs @ differences)
    far: np.ndarray = sums >= abs(differences.sum()) - 1e-9
    return far
