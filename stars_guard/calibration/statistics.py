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
from scipy.stats import rankdata

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

    def taken(self, index: NDArray[np.intp]) -> _Pairs:
        return _Pairs(self.prompts[index], self.partial[index], self.final[index])


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


def _pearson(pairs: _Pairs) -> float:
    """Linear correlation; NaN where it is not defined."""
    return _correlation(pairs.partial, pairs.final)


def _spearman(pairs: _Pairs) -> float:
    """Correlation of the ranks; NaN where it is not defined."""
    return _correlation(rankdata(pairs.partial), rankdata(pairs.final))


def _auc(pairs: _Pairs) -> float:
    """Area under the curve of the partial reward for "final reward above its median"; ties count half."""
    above = pairs.final > np.median(pairs.final) if len(pairs.final) else np.zeros(0, bool)
    count, rest = int(above.sum()), int((~above).sum())
    if not count or not rest:
        return float("nan")
    ranks = rankdata(pairs.partial)
    return float((ranks[above].sum() - count * (count + 1) / 2) / (count * rest))


def _within_prompt(pairs: _Pairs) -> float:
    """Correlation of the deviations from each prompt's means."""
    return _correlation(_deviations(pairs.partial, pairs.prompts), _deviations(pairs.final, pairs.prompts))


_MEASURES: dict[str, Callable[[_Pairs], float]] = {
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


def _resampled(pairs: Sequence[_Pairs], prompts: int, random: np.random.Generator) -> _Resampled:
    """Every measure at every segment, for prompts drawn with replacement; the same draw for all segments."""
    measured = {name: np.full((RESAMPLES, len(pairs)), np.nan) for name in _MEASURES}
    for number in range(RESAMPLES):
        times = np.bincount(random.integers(prompts, size=prompts), minlength=prompts)
        for segment, at_segment in enumerate(pairs):
            drawn = at_segment.taken(np.repeat(np.arange(len(at_segment.prompts)), times[at_segment.prompts]))
            for name, measure in _MEASURES.items():
                measured[name][number, segment] = measure(drawn)
    return measured


def _at(answers: Sequence[SampledAnswer], segment: int, pairs: _Pairs, resampled: _Resampled) -> AtSegment:
    positions = positions_at(answers, segment)
    estimates = {
        name: _estimate(measure(pairs), resampled[name][:, segment], pairs.prompts)
        for name, measure in _MEASURES.items()
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
        _mean(np.array([_MEASURES[name](at_segment) for at_segment in pairs[:half]])),
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


def _correlation(a: Numbers, b: Numbers) -> float:
    if len(a) < 3:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    # Deviations of this size are what rounding leaves of a constant.
    if not _varies(a) or not _varies(b):
        return float("nan")
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def _varies(deviations: Numbers) -> bool:
    return bool(np.abs(deviations).max() > 1e-12)


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
