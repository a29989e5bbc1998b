"""Figures with their uncertainty: bootstrap over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stars_guard.settings import StoredRecord


class MeanEstimate(StoredRecord):
    """A mean over prompts and its interval of 95 %."""

    value: float
    low: float
    high: float
    prompts: int
    """Prompts that it is the mean of."""


def bootstrapped(
    values: Mapping[str, Sequence[float]], seed: int, resamples: int = 2000
) -> MeanEstimate | None:
    """A share, or a judge's value: the mean over prompts, with its interval; None without prompts.

    The interval is that of :func:`bootstrapped_amount`, with one exception. Where every prompt says 0, or
    every prompt 1, resampling finds no spread: the interval is then the exact one of a share (Clopper and
    Pearson), which is about 3.7 / n wide. It is none for counts: no segment takes half an attempt.

    Args:
        values: of the answers to each prompt, by the prompt's id.
        seed: of the resampling.
        resamples: how often prompts are drawn anew.
    """
    estimate = bootstrapped_amount(values, seed, resamples)
    if estimate is not None and estimate.low == estimate.high and estimate.value in (0.0, 1.0):
        return _share_without_exception(estimate.value, estimate.prompts)
    return estimate


def bootstrapped_amount(
    values: Mapping[str, Sequence[float]], seed: int, resamples: int = 2000
) -> MeanEstimate | None:
    """A mean over prompts of what may be any number, with a percentile interval of resampled prompts.

    Prompts are resampled with all their answers, since answers to one prompt are alike. None without prompts.

    Args:
        values: of the answers to each prompt, by the prompt's id.
        seed: of the resampling.
        resamples: how often prompts are drawn anew.
    """
    import numpy as np

    means = np.array([np.mean(of_prompt) for of_prompt in values.values() if of_prompt])
    if not len(means):
        return None
    drawn = np.random.default_rng(seed).integers(0, len(means), (resamples, len(means)))
    low, high = np.quantile(means[drawn].mean(axis=1), [0.025, 0.975])
    return MeanEstimate(value=float(means.mean()), low=float(low), high=float(high), prompts=len(means))


def known(estimate: MeanEstimate | None) -> MeanEstimate:
    """An estimate of values that are there.

    Raises:
        ValueError: there were none.
    """
    if estimate is None:
        raise ValueError("no values to estimate a mean of")
    return estimate


def _share_without_exception(share: float, prompts: int) -> MeanEstimate:
    reach = 1 - 0.025 ** (1 / prompts)
    return MeanEstimate(
        value=share, low=max(0.0, share - reach), high=min(1.0, share + reach), prompts=prompts
    )
