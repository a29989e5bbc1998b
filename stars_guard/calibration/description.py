"""What is known of a reward model from sampled answers."""

from __future__ import annotations

from pydantic import ConfigDict

from stars_guard.settings import StoredRecord


class Figures(StoredRecord):
    """Finite numbers that were drawn or reckoned."""

    model_config = ConfigDict(allow_inf_nan=False)


class Estimate(Figures):
    """A number with its 95 % interval; None where the samples do not determine it.

    The interval comes from resampling prompts, since answers to one prompt are dependent.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class Quantiles(Figures):
    """Rewards under which 5, 25, 50, 75 and 95 % lie."""

    q05: float
    q25: float
    q50: float
    q75: float
    q95: float


class AtSegment(Figures):
    """One segment number, over all answers that got so far.

    Correlations are between the reward of the partial answer and that of the whole one, in [-1, 1], over the
    answers that went on after this segment.
    """

    segment: int
    """Number of the segment, from 0."""
    prefixes: int
    """Prefixes at which candidates were drawn."""
    tokens: float
    """Median response tokens, candidate included."""
    rewards: Quantiles
    """Rewards of all candidates."""
    path: float
    """Median reward of the candidates that answers went on with."""
    within_prefix: float
    """Median over prefixes of the standard deviation of the candidates of one prefix."""
    went_on: int
    """Answers that the correlations are over."""
    pearson: Estimate
    spearman: Estimate
    auc: Estimate
    """Chance that an answer above the median final reward had a higher partial one than one under it."""
    within_prompt: Estimate
    """Pearson correlation of the deviations from the prompt's own means; None without prompts that have
    several answers."""


class Description(Figures):
    """All that is known of the rewards."""

    prompts: int
    answers: int
    final: Quantiles
    """Rewards of whole answers."""
    spread: float
    """Standard deviation of all candidates' rewards."""
    within_prefix: float
    """Median over all prefixes of the standard deviation of the candidates of one prefix."""
    early: Estimate
    """Spearman correlation of partial and final rewards, averaged over the first half of the segments."""
    early_within_prompt: Estimate
    """``within_prompt``, averaged likewise."""
    segments: tuple[AtSegment, ...]
    warnings: list[str]
    """What speaks against this reward, each with the numbers and what to do."""
