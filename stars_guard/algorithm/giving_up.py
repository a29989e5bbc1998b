"""When a segment is given up: patience, applied to the attempts that were drawn like those that are left."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.algorithm.candidates import AttemptDraws
from stars_guard.algorithm.patience import FixedPatience, Patience
from stars_guard.algorithm.trace import Attempt


def gives_up(patience: Patience, draws: AttemptDraws, attempts: Sequence[Attempt], *, anew: bool) -> bool:
    """Whether the attempts that are left would hardly help.

    Args:
        patience: that of the settings.
        draws: how attempts at the segment are drawn.
        attempts: those so far, all rejected.
        anew: whether the place was written before.
    """
    left = draws.count - len(attempts)
    if _makes_all(patience, draws, len(attempts), anew):
        return False
    return patience.gives_up(_like_those_left(draws, attempts, anew), left)


def further(
    patience: Patience, draws: AttemptDraws, attempts: Sequence[Attempt], *, anew: bool = False
) -> int:
    """How many attempts are made before the segment may be given up, unless one is accepted.

    Args:
        patience: that of the settings.
        draws: how attempts at the segment are drawn.
        attempts: those so far, all rejected.
        anew: whether the place was written before.
    """
    left = draws.count - len(attempts)
    if _makes_all(patience, draws, len(attempts), anew):
        return left
    return patience.further(_like_those_left(draws, attempts, anew), left)


def _makes_all(patience: Patience, draws: AttemptDraws, made: int, anew: bool) -> bool:
    # What was rejected says nothing of a proposal that is still to come.
    left = draws.count - made
    return isinstance(patience, FixedPatience) or draws.alike(made, left, anew=anew) < left


def _like_those_left(draws: AttemptDraws, attempts: Sequence[Attempt], anew: bool) -> list[float]:
    draw = draws.of(len(attempts), anew=anew)
    alike = (each for each in attempts if draws.of(each.index, anew=anew) == draw)
    return [each.probability for each in alike]
