"""The posterior of a Dirichlet process as an urn: each draw is put back with another of its kind."""

from __future__ import annotations

from collections import Counter
from functools import cache


@cache
def all_rejected(seen: tuple[float, ...], attempts: int, prior_weight: float) -> float:
    """Chance that so many further attempts are all rejected.

    Args:
        seen: acceptance probabilities that are in the urn, in rising order.
        attempts: how many more are drawn.
        prior_weight: what the urn held before, half of it with probability 0 and half with 1.
    """
    if not attempts:
        return 1.0
    kinds = Counter(seen)
    kinds[0.0] += 0
    shares = {
        probability: number + (prior_weight / 2 if probability == 0 else 0)
        for probability, number in kinds.items()
    }
    return sum(
        share
        / (prior_weight + len(seen))
        * (1 - probability)
        * all_rejected(tuple(sorted((*seen, probability))), attempts - 1, prior_weight)
        for probability, share in shares.items()
    )
