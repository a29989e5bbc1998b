"""When a segment is given up: patience, applied to the attempts that were drawn like those that are left."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.algorithm.candidates import AttemptDraws
from stars_guard.algorithm.patience import FixedPatience, Patience
from stars_guard.algorithm.trace import Attempt


def gives_up(patience: Patience, draws: AttemptDraws, attempts: Sequence[Attempt], *, anew: bool) -> bool:
    """Whether the attempts that are left would hardly help; arguments as of :func:`further`."""
    rejected = _like_those_left(patience, draws, attempts, anew)
    return rejected is not None and patience.gives_up(rejected, draws.count - len(attempts))


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
    rejected = _like_those_left(patience, draws, attempts, anew)
    return left if rejected is None else patience.further(rejected, left)


def _like_those_left(
    patience: Patience, draws: AttemptDraws, attempts: Sequence[Attempt], anew: bool
) -> list[float] | None:
    """Acceptance probabilities of attempts drawn like all that are left; None where nothing follows."""
    # Every attempt comes here, and comparing the draws is slow beside a patience that never looks at them.
    if isinstance(patience, FixedPatience):
        return None
    made, left = len(attempts), draws.count - len(attempts)
    # What was rejected says nothing of a proposal that is still to come.
    if draws.alike(made, left, anew=anew) < left:
        return None
    draw = draws.of(made, anew=anew)
    return [each.probability for each in attempts if draws.of(each.index, anew=anew) == draw]
