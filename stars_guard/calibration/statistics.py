"""What the rewards of sampled answers are like, and whether a guard can steer by them. Pure.

A guard judges answers that are not complete. It steers well only where candidates of one prefix get different
rewards, and where the reward of a partial answer says something about that of the complete one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stars_guard.calibration.description import AtSegment, Description, Estimate, Quantiles
from stars_guard.calibration.doubts import doubts
from stars_guard.calibration.samples import SampledAnswer, positions_at
from stars_guard.errors import ConfigurationError

RESAMPLES = 400
"""Bootstrap samples behind every interval."""

Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class _Pairs:
    """Partial and final rewards at one segment number, with the index of the prompt."""

    prompts: NDArray[np.intp]
    partial: Numbers
    final: Numbers


def describe(answers: Sequence[SampledAnswer], *, seed: int = 0) -> Description:
    """Describe the rewards of sampled answers.

    Args:
        answers: at least one, each with at least one segment.
        seed: for the bootstrap.

    Raises:
        ConfigurationError: there are no answers, or one has no segments.
    """
    if not answers or not all(answer.positions for answer in answers):
        raise ConfigurationError("there are no answers, or one without segments; draw some first")
    names = {prompt: n for n, prompt in enumerate(sorted({answer.prompt for answer in answers}))}
    longest = max(len(answer.positions) for answer in answers)
    pairs = [_pairs(answers, names, number) for number in range(longest)]
    resampled = _resampled(pairs, len(names), np.random.default_rng(seed))
    description = Description(
        prompts=len(names),
        answers=len(answers),
        final=_quantiles([answer.final_reward for answer in answers]),
        spread=float(np.std(_all_rewards(answers))),
        within_prefix=_within(answers),
        early=_early(answers, pairs, resampled, "spearman"),
        early_within_prompt=_early(answers, pairs, resampled, "within_prompt"),
        segments=tuple(_at(answers, n, at_segment, resampled) for n, at_segment in enumerate(pairs)),
        warnings=[],
    )
    return description.model_copy(update={"warnings": doubts(description, _all_rewards(answers).tolist())})


# A measure takes how often each answer was drawn, ``[resample, answer]``, and gives a value for each
# resample, NaN where it is not defined: so hundreds of resamples cost no loop of Python.


def _pearson(pairs: _Pairs, times: Numbers) -> Numbers:
    """Linear correlation."""
    return _correlation(pairs.partial, pairs.final, times)


def _spearman(pairs: _Pairs, times: Numbers) -> Numbers:
    """Correlation of the ranks."""
    return _correlation(_ranks(pairs.partial, times), _ranks(pairs.final, times), times)


def _auc(pairs: _Pairs, times: Numbers) -> Numbers:
    """Area under the curve of the partial reward for "final reward above its median"; ties count half."""
    above = times * (pairs.final > _medians(pairs.final, times)[:, None])
    count = above.sum(1)
    rest = times.sum(1) - count
    wins = (above * _ranks(pairs.partial, times)).sum(1) - count * (count + 1) / 2
    return _ratio(wins, count * rest)


def _within_prompt(pairs: _Pairs, times: Numbers) -> Numbers:
    """Correlation of the deviations from each prompt's means.

    Prompts are drawn whole, so the means are those of the sample.
    """
    return _correlation(
        _deviations(pairs.partial, pairs.prompts), _deviations(pairs.final, pairs.prompts), times
    )


_MEASURES: dict[str, Callable[[_Pairs, Numbers], Numbers]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "auc": _auc,
    "within_prompt": _within_prompt,
}
_Resampled: TypeAlias = dict[str, Numbers]
"""By measure: ``[resample, segment]``."""


def _pairs(answers: Sequence[SampledAnswer], names: dict[int, int], segment: int) -> _Pairs:
    longer = [answer for answer in answers if segment + 1 < len(answer.positions)]
    return _Pairs(
        np.array([names[answer.prompt] for answer in longer], dtype=np.intp),
        np.array([answer.path[segment] for answer in longer], dtype=np.float64),
        np.array([answer.final_reward for answer in longer], dtype=np.float64),
    )


def _value(name: str, pairs: _Pairs) -> float:
    """A measure of the sample itself, in which every answer counts once."""
    return float(_MEASURES[name](pairs, np.ones((1, len(pairs.prompts))))[0])


def _resampled(pairs: Sequence[_Pairs], prompts: int, random: np.random.Generator) -> _Resampled:
    """Every measure at every segment, for prompts drawn with replacement; the same draw for all segments."""
    draws = [np.bincount(random.integers(prompts, size=prompts), minlength=prompts) for _ in range(RESAMPLES)]
    times = np.array(draws, dtype=np.float64)
    return {
        name: np.stack([measure(at_segment, times[:, at_segment.prompts]) for at_segment in pairs], axis=1)
        for name, measure in _MEASURES.items()
    }


def _at(answers: Sequence[SampledAnswer], segment: int, pairs: _Pairs, resampled: _Resampled) -> AtSegment:
    positions = positions_at(answers, segment)
    estimates = {
        name: _estimate(_value(name, pairs), resampled[name][:, segment], pairs.prompts) for name in _MEASURES
    }
    return AtSegment(
        segment=segment,
        prefixes=len(positions),
        tokens=float(np.median([count for position in positions for count in position.tokens])),
        rewards=_quantiles([reward for position in positions for reward in position.rewards]),
        path=float(np.median([position.rewards[position.chosen] for position in positions])),
        within_prefix=float(np.median([np.std(position.rewards) for position in positions])),
        went_on=len(pairs.final),
        **estimates,
    )


def _early(
    answers: Sequence[SampledAnswer],
    pairs: Sequence[_Pairs],
    resampled: _Resampled,
    name: str,
) -> Estimate:
    """A measure, averaged over the first half of the segments of an answer of median length."""
    half = max(1, int(np.median([len(answer.positions) for answer in answers])) // 2)
    return _estimate(
        _mean(np.array([_value(name, at_segment) for at_segment in pairs[:half]])),
        np.array([_mean(row) for row in resampled[name][:, :half]]),
        pairs[0].prompts,
    )


def _estimate(value: float, resampled: Numbers, prompts: NDArray[np.intp]) -> Estimate:
    """No interval from a single prompt, or where most resamples leave the value undefined."""
    if not np.isfinite(value):
        return Estimate(value=None)
    usable = resampled[np.isfinite(resampled)]
    if len(np.unique(prompts)) < 2 or len(usable) < len(resampled) / 2:
        return Estimate(value=value)
    low, high = np.quantile(usable, (0.025, 0.975))
    return Estimate(value=value, low=float(low), high=float(high))


def _mean(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _correlation(a: Numbers, b: Numbers, times: Numbers) -> Numbers:
    """Linear correlation of two variables, ``[answer]`` or ``[resample, answer]``, in each resample."""
    a, b = _centred(a, times), _centred(b, times)
    squares = (times * a * a).sum(1) * (times * b * b).sum(1)
    values = np.clip(_ratio((times * a * b).sum(1), np.sqrt(squares)), -1, 1)
    return np.where(times.sum(1) < 3, np.nan, values)


def _centred(values: Numbers, times: Numbers) -> Numbers:
    """Differences from each resample's mean, the largest 1: zeros where nothing varies."""
    means = _ratio((times * values).sum(1), times.sum(1))
    deviations: Numbers = np.where(times > 0, values - means[:, None], 0.0)
    largest = np.abs(deviations).max(1, initial=0.0, keepdims=True)
    # Deviations of this size are what rounding leaves of a constant.
    scaled: Numbers = np.divide(deviations, largest, out=np.zeros_like(deviations), where=largest > 1e-12)
    return scaled


def _ratio(values: Numbers, totals: Numbers) -> Numbers:
    ratio: Numbers = np.divide(values, totals, out=np.full_like(values, np.nan), where=totals > 0)
    return ratio


def _ranks(values: Numbers, times: Numbers) -> Numbers:
    """Rank of every answer in each resample, from 1; ties share their mean rank."""
    if not len(values):
        return np.zeros_like(times)
    _, starts, group = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = np.argsort(values)
    counts = np.add.reduceat(times[:, order], starts, axis=1)
    ranks = np.empty_like(times)
    ranks[:, order] = (np.cumsum(counts, axis=1) - (counts - 1) / 2)[:, group]
    return ranks


def _medians(values: Numbers, times: Numbers) -> Numbers:
    """Median of each resample; NaN where nothing was drawn."""
    if not len(values):
        return np.full(len(times), np.nan)
    order = np.argsort(values)
    counts = np.cumsum(times[:, order], axis=1)
    total = times.sum(1, keepdims=True)
    middle = [values[order][np.argmax(counts > (total - odd) // 2, axis=1)] for odd in (0, 1)]
    return np.where(total[:, 0] > 0, (middle[0] + middle[1]) / 2, np.nan)


def _deviations(values: Numbers, prompts: NDArray[np.intp]) -> Numbers:
    """Differences from the mean of the prompt."""
    counts = np.bincount(prompts)
    means = np.bincount(prompts, weights=values) / np.maximum(counts, 1)
    deviations: Numbers = values - means[prompts]
    return deviations


def _all_rewards(answers: Sequence[SampledAnswer]) -> Numbers:
    return np.array([r for answer in answers for position in answer.positions for r in position.rewards])


def _within(answers: Sequence[SampledAnswer]) -> float:
    return float(np.median([np.std(position.rewards) for answer in answers for position in answer.positions]))


def _quantiles(rewards: Sequence[float]) -> Quantiles:
    q05, q25, q50, q75, q95 = map(float, np.quantile(rewards, (0.05, 0.25, 0.5, 0.75, 0.95)))
    return Quantiles(q05=q05, q25=q25, q50=q50, q75=q75, q95=q95)
