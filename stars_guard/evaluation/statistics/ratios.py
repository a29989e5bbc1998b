"""Ratios of sums, and medians, with intervals from resampled prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from stars_guard.evaluation.statistics.estimates import MeanEstimate

if TYPE_CHECKING:
    import numpy as np

    Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_T = TypeVar("_T")
_RESAMPLES = 1000


def values_by_prompt(values: Iterable[tuple[str, _T]]) -> dict[str, list[_T]]:
    """Values by the prompt that they belong to, in the order in which they came."""
    groups: dict[str, list[_T]] = defaultdict(list)
    for prompt, value in values:
        groups[prompt].append(value)
    return dict(groups)


def bootstrapped_ratio(
    pairs: Mapping[str, Sequence[tuple[float, float]]], seed: int, resamples: int = _RESAMPLES
) -> MeanEstimate | None:
    """The sum of the first numbers over the sum of the second ones; None without prompts.

    Where the second ones sum to 0, such as tokens kept of answers that were all refused, the first sum itself
    is the ratio: what was spent still counts.

    Args:
        pairs: of the answers to each prompt, by the prompt's id.
        seed: of the resampling.
        resamples: how often prompts are drawn anew.
    """
    import numpy as np

    sums = [np.sum(of_prompt, axis=0) for of_prompt in pairs.values() if of_prompt]

    def ratio(drawn: Floats) -> Floats:
        first, second = np.moveaxis(drawn.sum(axis=1), -1, 0)
        quotient: Floats = first / np.where(second > 0, second, 1.0)
        return quotient

    return _resampled(np.array(sums, dtype=float), ratio, seed, resamples)


def bootstrapped_median(
    values: Mapping[str, Sequence[float]], seed: int, resamples: int = _RESAMPLES
) -> MeanEstimate | None:
    """The median over prompts, in the place of the mean; None without prompts.

    Args:
        values: of the answers to each prompt, by the prompt's id.
        seed: of the resampling.
        resamples: how often prompts are drawn anew.
    """
    import numpy as np

    means = np.array([np.mean(of_prompt) for of_prompt in values.values() if of_prompt], dtype=float)
    return _resampled(means, lambda drawn: np.median(drawn, axis=1), seed, resamples)


def _resampled(
    of_prompts: Floats, statistic: Callable[[Floats], Floats], seed: int, resamples: int
) -> MeanEstimate | None:
    """A statistic of all prompts, and its percentiles over resampled ones."""
    import numpy as np

    count = len(of_prompts)
    if not count:
        return None
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    low, high = np.quantile(statistic(of_prompts[drawn]), [0.025, 0.975])
    (value,) = statistic(of_prompts[None])
    return MeanEstimate(value=float(value), low=float(low), high=float(high), prompts=count)
