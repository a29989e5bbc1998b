"""What speaks against a reward model: one plain sentence each, with the numbers and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stars_guard.calibration.description import Description

LEAST_PROMPTS = 20
"""With fewer prompts the intervals themselves are unreliable."""
LEAST_CORRELATION = 0.3
"""A partial reward that surely correlates less with the final one is no guide."""
LEAST_SPREAD = 0.05
"""Least spread of the candidates of one prefix, as a share of that of all rewards."""
SATURATED = 0.01
"""Distance from the median to one end (5 or 95 %), as a share of that to the other."""


def doubts(about: Description, rewards: Sequence[float]) -> list[str]:
    """Everything that speaks against steering by these rewards; empty where nothing does.

    Args:
        about: the rewards' description; its own warnings are not read.
        rewards: those of all candidates.
    """
    if min(rewards) == max(rewards):
        return [*_few(about), _constant(rewards)]
    return [*_few(about), *_alike(about), *_saturated(rewards), *_blind(about), *_blind_within(about)]


def _few(about: Description) -> list[str]:
    if about.prompts >= LEAST_PROMPTS:
        return []
    return [
        f"Only {about.prompts} prompts were sampled, too few to trust the intervals: "
        f"use at least {LEAST_PROMPTS}, better 100."
    ]


def _constant(rewards: Sequence[float]) -> str:
    return (
        f"All {len(rewards)} rewards are {rewards[0]:.4g}, so the reward model tells no texts apart: "
        "check how its output is read, or use another one."
    )


def _alike(about: Description) -> list[str]:
    if about.within_prefix > LEAST_SPREAD * about.spread:
        return []
    return [
        f"Candidates of one prefix differ by {about.within_prefix:.2g} (median standard deviation) where all "
        f"rewards differ by {about.spread:.2g}, so that drawing again changes almost nothing: "
        "use a reward that reads the answer and not only the prompt, longer segments or a higher temperature."
    ]


def _saturated(rewards: Sequence[float]) -> list[str]:
    low, middle, high = map(float, np.quantile(rewards, (0.05, 0.5, 0.95)))
    below, above = middle - low, high - middle
    if min(below, above) > SATURATED * max(below, above):
        return []
    end, (start, stop) = ("upper", (middle, high)) if above <= below else ("lower", (low, middle))
    return [
        f"The rewards crowd at the {end} end of their scale: 45 % of them lie between {start:.6g} and "
        f"{stop:.6g}, out of {low:.4g} to {high:.4g} for 90 %: "
        "use the logit in place of a probability, or a scale with finer steps."
    ]


def _blind(about: Description) -> list[str]:
    correlation = about.early
    if correlation.value is None or correlation.low is None or correlation.high is None:
        return [
            "Too few answers to say whether rewards of partial answers predict the final reward: "
            "sample more prompts, and answers of several segments."
        ]
    numbers = f"{correlation.value:.2f} (95 % interval {correlation.low:.2f} to {correlation.high:.2f})"
    if correlation.high < LEAST_CORRELATION:
        return [
            f"Rewards of partial answers do not predict the final reward: over the first half of the "
            f"segments their rank correlation is {numbers}, so a guard would choose by noise: "
            "use a reward that was trained on partial answers, or longer segments."
        ]
    if correlation.low <= 0:
        return [
            f"Too few answers to say whether rewards of partial answers predict the final reward: "
            f"their rank correlation is {numbers} over the first half of the segments: sample more prompts."
        ]
    return []


def _blind_within(about: Description) -> list[str]:
    within = about.early_within_prompt
    if within.high is None or within.high >= LEAST_CORRELATION or _blind(about):
        return []
    return [
        f"Rewards of partial answers tell prompts apart, but not the answers to one prompt: there the "
        f"correlation with the final reward is {within.value:.2f} (95 % interval {within.low:.2f} to "
        f"{within.high:.2f}) over the first half of the segments: "
        "use a reward that was trained on partial answers, or longer segments."
    ]
