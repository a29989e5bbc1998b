"""How long a segment is tried: for all attempts, or until the rest of them would hardly help.

The criterion is stated here alone. Attempts that are drawn alike have one law, and what counts is its mean
acceptance probability ``mu``. The rule knows the acceptance probability of every candidate exactly, so more
is known of ``mu`` than that so many were rejected; that they were adds nothing to it.

The prior for the law of these probabilities is a Dirichlet process, as if ``prior_weight`` candidates had
been seen before the first, half of them with probability 0 and half with 1. After ``a_1, ..., a_m`` its
posterior gives, with ``w = prior_weight``, ``T = w + m`` and ``(x)_j = x (x + 1) ... (x + j - 1)``,

    E[(1 - mu)^j] = j! / (T)_j times the coefficient of z^j in (1 - z)^(-w / 2) / prod_i (1 - z (1 - a_i))

which is the chance that ``j`` further attempts are all rejected. Where every ``a_i`` is 0 or 1, as by the
hard rule, this is the beta-binomial law of counting.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stars_guard.algorithm.kinds import any_kind
from stars_guard.settings import Computable, Settings


class FixedPatience(Settings):
    """Every segment may take all attempts."""

    kind: Literal["fixed"] = "fixed"

    def gives_up(self, probabilities: Sequence[float], left: int) -> bool:
        """Never before the last attempt."""
        return False

    def further(self, probabilities: Sequence[float], left: int) -> int:
        """How many attempts are made before a segment may be given up: all that are left."""
        return left


class PosteriorPatience(Settings):
    """Stop once all attempts that are left would hardly bring an acceptance.

    Law: what is accepted follows the same law, since only earlier candidates decide whether another is drawn
    (docs/bar.md). Segments are given up earlier, so that the exhaustion policy decides more often.
    """

    kind: Literal["posterior"] = "posterior"
    at_least: int = Field(default=4, ge=1)
    """Attempts that are made in any case, counted where they are drawn as those that are left would be."""
    chance: Computable = Field(default=0.05, gt=0, lt=1)
    """Chance under which a segment is given up: that any of the attempts left would be accepted."""
    prior_weight: Computable = Field(default=0.2, gt=0)
    """Candidates that the prior counts for, half of them hopeless and half sure. Small: places are mostly
    either easy or hopeless."""

    def gives_up(self, probabilities: Sequence[float], left: int) -> bool:
        """Whether further attempts would hardly help.

        Args:
            probabilities: acceptance probabilities of the rejected candidates, in [0, 1].
            left: attempts that may still be made, drawn like those.
        """
        if len(probabilities) < self.at_least:
            return False
        # The chances fall, so that most segments are decided by the first of them.
        chances = islice(rejection_chances(probabilities, self.prior_weight), left)
        return all(1 - rejected < self.chance for rejected in chances)

    def further(self, probabilities: Sequence[float], left: int) -> int:
        """How many attempts are made before a segment may be given up, unless one is accepted.

        That is where none of them could have been accepted: each that could have been keeps the chance up.

        Args:
            probabilities: acceptance probabilities of the rejected candidates, in [0, 1].
            left: attempts that may still be made, drawn like those.
        """

        def given_up(more: int) -> bool:
            return self.gives_up([*probabilities, *[0.0] * more], left - more)

        # The more were hopeless and the fewer are left, the lower the chance. With none left, it is 0.
        return bisect_left(range(left), True, lo=min(1, left), key=given_up)


def rejection_chances(probabilities: Sequence[float], prior_weight: float) -> Iterator[float]:
    """The posterior chance that 1, 2, 3, ... further attempts are all rejected, without end.

    Args:
        probabilities: acceptance probabilities of the candidates seen, in [0, 1].
        prior_weight: candidates that the prior counts for, over 0.
    """
    rejections = [1 - probability for probability in probabilities if probability > 0]
    hopeless = prior_weight / 2 + len(probabilities) - len(rejections)
    total = prior_weight + len(probabilities)
    # One factor of the product after the other: 1 / (1 - z r) adds r times what it gave for z^(j - 1).
    terms = [1.0] * (1 + len(rejections))
    attempts = 0
    while True:
        attempts += 1
        scale = total + attempts - 1
        terms[0] *= (hopeless + attempts - 1) / scale
        for number, rejection in enumerate(rejections, start=1):
            terms[number] = terms[number - 1] + rejection * terms[number] * attempts / scale
        yield terms[-1]


_PATIENCE = any_kind("'fixed', 'posterior', FixedPatience() or PosteriorPatience(...)")

Patience: TypeAlias = Annotated[FixedPatience | PosteriorPatience, Field(discriminator="kind"), _PATIENCE]
"""How long a segment is tried, or the name of the kind."""
