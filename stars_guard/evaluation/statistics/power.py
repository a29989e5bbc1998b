"""How many prompts it takes to see a difference."""

from __future__ import annotations

import math
from statistics import NormalDist

TWO_POINTS = 0.02
"""The difference that evaluations are planned for: two points of a rate."""


def prompts_needed(
    spread: float, difference: float = TWO_POINTS, *, power: float = 0.8, level: float = 0.05
) -> int:
    """Prompts that a paired comparison needs to find a difference.

    By the normal approximation, ``((z_{1 - level/2} + z_{power}) * spread / difference) ** 2``.

    Args:
        spread: standard deviation of the paired differences over prompts.
        difference: what shall be found, over 0, in the same units.
        power: chance to find it, between 0 and 1.
        level: chance to find one where there is none, between 0 and 1.
    """
    normal = NormalDist()
    reach = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)
    return max(1, math.ceil((reach * spread / difference) ** 2))
