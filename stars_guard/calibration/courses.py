"""How long a segment is tried: what becomes of attempt after attempt, on sampled candidates. Pure functions.

With fixed patience all attempts are made, and the mean of the products of ``j`` rejection probabilities is
unbiased for the chance that ``j`` attempts are rejected. With posterior patience, which attempts are made
depends on the candidates before them, in their order: candidates are exchangeable, so each rotation of them
is one more try at the same segment, and the mean over rotations is unbiased, too. Beyond the candidates that
were drawn, those that are rejected are taken for hopeless, which by the hard rule they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from stars_guard.algorithm.patience import FixedPatience, Patience


class Course(NamedTuple):
    """Chances at one prefix, or weighted sums of them over several."""

    rejected: list[float]
    """Chance that so many attempts are made and all rejected, from 0 to as many as candidates were drawn."""
    made: list[float]
    """Chance that so many are rejected, and another one is made, from 0 to the last attempt but one. Beyond
    the candidates that were drawn: as if all were rejected."""

    def plus(self, other: Course, weight: float) -> Course:
        """The sum with another one that counts ``weight`` times."""
        return Course(
            *(
                [a + weight * b for a, b in zip(*parts, strict=True)]
                for parts in zip(self, other, strict=True)
            )
        )

    @property
    def made_chances(self) -> list[float]:
        """The chance that a first, second, ... attempt is made; where nothing was drawn, as it is guessed."""
        return [alive * tried for alive, tried in zip(self._alive, self._tried, strict=False)]

    @property
    def accepted(self) -> float:
        """The chance that one of the attempts is accepted."""
        shares = zip(pairwise(self._alive), self._tried, strict=True)
        return sum(tried * (before - after) for (before, after), tried in shares)

    @property
    def _alive(self) -> list[float]:
        """The chance that so many are rejected, were all of them made."""
        alive = [1.0]
        for after, before in zip(self.rejected[1:], self.made, strict=False):
            alive.append(alive[-1] * after / before if before > 0 else 0.0)
        return continued(alive, len(self.made))

    @property
    def _tried(self) -> list[float]:
        """The share of those rejected so often that are tried on."""
        tried = [1.0]
        for number in range(1, len(self.made)):
            before = self.rejected if number < len(self.rejected) else self.made
            known = before[number] if before is self.rejected else before[number - 1]
            tried.append(tried[-1] * self.made[number] / known if known > 0 else 0.0)
        return tried


def course(likely: Sequence[float], patience: Patience, most: int) -> Course:
    """What becomes of the attempts at a segment.

    Args:
        likely: acceptance probabilities of candidates drawn independently of each other, at least one.
        patience: that of the settings.
        most: attempts that the settings allow.
    """
    if isinstance(patience, FixedPatience):
        rejected = product_means([1 - chance for chance in likely])[: most + 1]
        made = rejected[:most]
        return Course(rejected, made + [rejected[-1]] * (most - len(made)))
    total = Course([0.0] * (min(len(likely), most) + 1), [0.0] * most)
    for start in range(len(likely)):
        total = total.plus(
            _tried_in_order((*likely[start:], *likely[:start]), patience, most), 1 / len(likely)
        )
    return total


@lru_cache(maxsize=4096)
def _tried_in_order(likely: tuple[float, ...], patience: Patience, most: int) -> Course:
    rejected, made = [1.0] + [0.0] * min(len(likely), most), [0.0] * most
    ends = attempts_made(likely, patience, most)
    for number in range(ends):
        made[number] = rejected[number]
        rejected[number + 1] = made[number] * (1 - likely[number])
    if ends == len(likely) < most and not patience.gives_up(likely, most - ends):
        ends += patience.further(likely, most - ends)
        made[len(likely) : ends] = [rejected[-1]] * (ends - len(likely))
    return Course(rejected, made)


def attempts_made(likely: Sequence[float], patience: Patience, most: int) -> int:
    """How many candidates are judged where all of them are rejected.

    Args:
        likely: their acceptance probabilities, in order.
        patience: that of the settings.
        most: attempts that the settings allow.
    """
    drawn = min(len(likely), most)
    return next((n for n in range(1, drawn) if patience.gives_up(likely[:n], most - n)), drawn)


def attempts_in_vain(likely: Sequence[float], patience: Patience, most: int) -> int:
    """About how many attempts are made where none is accepted: all with the mean chance of a rejected one.

    Args:
        likely: acceptance probabilities of candidates drawn independently of each other.
        patience: that of the settings.
        most: attempts that the settings allow.
    """
    rejected = sum(1 - chance for chance in likely)
    mean = sum(chance * (1 - chance) for chance in likely) / rejected if rejected else 0.0
    if mean == 0:
        return patience.further((), most)
    return next((n for n in range(1, most) if patience.gives_up([mean] * n, most - n)), most)


def product_means(values: Sequence[float]) -> list[float]:
    """For ``j`` from 0 to ``len(values)``: the mean of all products of ``j`` of the values."""
    sums = [1.0] + [0.0] * len(values)
    for number, value in enumerate(values, start=1):
        for size in range(number, 0, -1):
            sums[size] += value * sums[size - 1]
    return [total / math.comb(len(values), size) for size, total in enumerate(sums)]


def continued(alive: list[float], most: int) -> list[float]:
    """The sequence up to index ``most``; where it is shorter, the accepted share falls on as it last did."""
    if most < len(alive):
        return alive[: most + 1]
    leaves = [1 - after / before if before > 0 else 1.0 for before, after in pairwise(alive)]
    falls = 1.0
    if len(leaves) > 1 and leaves[-2] > 0:
        falls = min(1.0, max(0.0, leaves[-1] / leaves[-2]))
    sequence, share = list(alive), leaves[-1]
    for _ in range(most - len(alive) + 1):
        share *= falls
        sequence.append(sequence[-1] * (1 - share))
    return sequence
