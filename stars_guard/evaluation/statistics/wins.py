"""Wins, ties and losses of one method against another, and how far the order of a pair decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import TypeAlias

from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.paired import paired_difference
from stars_guard.settings import StoredRecord

EVEN = 0.5
"""Value of a tie, and the win rate of methods that do not differ."""
PairVerdicts: TypeAlias = Sequence[float]
"""Verdicts on one pair, one for every order that it was judged in: 1 won, 0.5 tied, 0 lost."""


class WinRate(StoredRecord):
    """What became of pairs of answers to the same prompts."""

    wins: int
    """Pairs won; of those judged in both orders, won in both, or in one and tied in the other."""
    ties: int
    """Pairs tied, or won by a different answer in each order."""
    losses: int
    rate: MeanEstimate
    """Mean over prompts, ties counting half, with its interval of 95 %."""
    chance: float
    """Two-sided p-value of the sign-flip test that neither method is better."""
    orders_agree: MeanEstimate | None = None
    """Share of the pairs judged in both orders whose verdict was the same in both; None without any."""


def win_rate(pairs: Mapping[str, Sequence[PairVerdicts]], seed: int) -> WinRate | None:
    """Wins, ties and losses; None where nothing was judged.

    Args:
        pairs: verdicts on the pairs of answers to each prompt, by the prompt's id.
        seed: of resampling prompts, and of the test's signs.
    """
    values = {prompt: [fmean(verdicts) for verdicts in of_prompt] for prompt, of_prompt in pairs.items()}
    rate = bootstrapped(values, seed)
    test = paired_difference(values, {prompt: [EVEN] for prompt in values}, seed)
    if rate is None or test is None:
        return None
    every = list(chain.from_iterable(values.values()))
    agreeing = {
        prompt: [float(len(set(verdicts)) == 1) for verdicts in of_prompt if len(verdicts) > 1]
        for prompt, of_prompt in pairs.items()
    }
    return WinRate(
        wins=sum(value > EVEN for value in every),
        ties=sum(value == EVEN for value in every),
        losses=sum(value < EVEN for value in every),
        rate=rate,
        chance=test.chance,
        orders_agree=bootstrapped(agreeing, seed),
    )
