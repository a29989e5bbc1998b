"""Wins, ties and losses of one method against another, and how far the order of a pair decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.paired import ByPrompt, paired_difference
from stars_guard.settings import StoredRecord

EVEN = 0.5
"""Value of a tie, and the win rate of methods that do not differ."""


class WinRate(StoredRecord):
    """What became of pairs of answers to the same prompts."""

    wins: int
    """Pairs won in both orders, or in one and tied in the other."""
    ties: int
    """Pairs tied, or won by a different answer in each order."""
    losses: int
    rate: MeanEstimate
    """Mean over prompts, ties counting half, with its interval of 95 %."""
    chance: float
    """Two-sided p-value of the sign-flip test that neither method is better."""
    orders_agree: float | None = None
    """Share of the pairs judged in both orders whose verdict was the same in both; None without any."""


def win_rate(values: ByPrompt, orders: Sequence[Sequence[float]], seed: int) -> WinRate | None:
    """Wins, ties and losses; None where nothing was judged.

    Args:
        values: of the answers to each prompt, by the prompt's id: 1 won, 0.5 tied, 0 lost, or between them.
        orders: verdicts on each pair in the orders that it was judged in, with the same values.
        seed: of resampling prompts, and of the test's signs.
    """
    rate = bootstrapped(values, seed)
    test = paired_difference(values, {prompt: [EVEN] for prompt in values}, seed)
    if rate is None or test is None:
        return None
    every = list(chain.from_iterable(values.values()))
    both = [verdicts for verdicts in orders if len(verdicts) > 1]
    return WinRate(
        wins=sum(value > EVEN for value in every),
        ties=sum(value == EVEN for value in every),
        losses=sum(value < EVEN for value in every),
        rate=rate,
        chance=test.chance,
        orders_agree=sum(len(set(verdicts)) == 1 for verdicts in both) / len(both) if both else None,
    )
