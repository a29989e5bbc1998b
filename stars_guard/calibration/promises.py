"""What settings do on sampled prefixes: acceptance rate, attempts, forced segments. Pure functions.

At one prefix, let ``q`` be the chance that a candidate is rejected. A segment with at most ``M`` attempts is
judged ``sum_{j<M} q**j`` times on average and accepted with chance ``1 - q**M``, so the acceptance rate that
traces report is ``(1 - S_M) / sum_{j<M} S_j`` with ``S_j`` the mean of ``q**j`` over prefixes.

``1 / (1 - q)`` with ``q`` estimated from few candidates would be biased upwards, without bound where all of
them were rejected. ``S_j`` needs no such estimate: with ``m`` candidates whose rejection probabilities are
``q_1 ... q_m``, the mean of the products of ``j`` of them is unbiased for ``q**j`` as long as ``j <= m``.
Beyond ``m`` it must be guessed how many prefixes are hopeless: the accepted share ``1 - S_{j+1} / S_j`` can
only fall with ``j``, whatever the prefixes, and is taken to fall on by its last ratio. With ``m >= M``
nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from stars_guard.calibration.draw import probabilities
from stars_guard.calibration.samples import Position, SampledAnswer
from stars_guard.config import GuardConfig

_HOPELESS = 1e-3
"""A candidate with a smaller share of the acceptance was forced, or drawn by a very unlikely number."""

Prefix: TypeAlias = tuple[SampledAnswer, Position]


class Promise(BaseModel):
    """What settings do on the sampled prefixes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    acceptance: float
    """Accepted over judged candidates, all segments together, as a trace reports it."""
    attempts: float
    """Candidates judged per segment."""
    forced: float
    """Share of segments in which every attempt is rejected, so that the exhaustion policy decides."""


def promise(
    answers: Sequence[SampledAnswer], config: GuardConfig, drawn_with: GuardConfig | None = None
) -> Promise:
    """What a guard with these settings does on the sampled prefixes.

    The prefixes are those of the answers: unguarded answers understate what a guard accepts later on, since
    accepted prefixes score higher. With ``drawn_with``, the settings of the guard under which the answers
    were drawn, they are weighted as ``config`` would leave them.
    """
    return promise_of(prefixes(answers), config, drawn_with)


def prefixes(answers: Sequence[SampledAnswer]) -> list[Prefix]:
    """Every prefix, with the answer that it belongs to."""
    return [(answer, position) for answer in answers for position in answer.positions]


def promise_of(own: Sequence[Prefix], config: GuardConfig, drawn_with: GuardConfig | None) -> Promise:
    """Like :func:`promise`, for some of the prefixes."""
    alive = _alive(own, config, drawn_with)
    judged, exhausted = sum(alive[:-1]), alive[-1]
    return Promise(acceptance=(1 - exhausted) / judged, attempts=judged, forced=exhausted)


def _alive(own: Sequence[Prefix], config: GuardConfig, drawn_with: GuardConfig | None) -> list[float]:
    """``S_0 ... S_M``: mean chance that the first ``j`` attempts at a segment are all rejected."""
    answers = {id(answer): answer for answer, _ in own}
    weights = {key: _weights(answer, config, drawn_with) for key, answer in answers.items()}
    total, means = 0.0, [0.0]
    for answer, position in own:
        likely = probabilities(config, position, answer.max_tokens, answer.base_reward)
        weight = weights[id(answer)][position.segment]
        total += weight
        own_means = product_means([1 - one for one in likely])
        means = [a + weight * b for a, b in zip_longest(means, own_means, fillvalue=0.0)]
    return continued([one / total for one in means], config.max_attempts)


def _weights(answer: SampledAnswer, config: GuardConfig, drawn_with: GuardConfig | None) -> dict[int, float]:
    """By segment: how much likelier its prefix is under ``config``, by the segments that it is made of.

    A segment that was forced was not chosen by the rule, and counts as it is.
    """
    if drawn_with is None:
        return {position.segment: 1.0 for position in answer.positions}
    weight, weights = 1.0, {}
    for position in answer.positions:
        weights[position.segment] = weight
        then, now = (_share(one, answer, position) for one in (drawn_with, config))
        weight *= now / then if then > _HOPELESS else 1.0
    return weights


def _share(config: GuardConfig, answer: SampledAnswer, position: Position) -> float:
    """The chosen candidate's acceptance probability over that of all, 1 on average."""
    likely = probabilities(config, position, answer.max_tokens, answer.base_reward)
    total = sum(likely)
    return likely[position.chosen] * len(likely) / total if total > 0 else 1.0


def product_means(values: Sequence[float]) -> list[float]:
    """For ``j`` from 0 to ``len(values)``: the mean of all products of ``j`` of the values."""
    sums = [1.0] + [0.0] * len(values)
    for number, value in enumerate(values, start=1):
        for size in range(number, 0, -1):
            sums[size] += value * sums[size - 1]
    return [one / math.comb(len(values), size) for size, one in enumerate(sums)]


def continued(alive: list[float], most: int) -> list[float]:
    """The sequence up to index ``most``; where it is shorter, the accepted share falls on as it last did."""
    if most < len(alive):
        return alive[: most + 1]
    leaves = [1 - after / before if before > 0 else 1.0 for before, after in pairwise(alive)]
    falls = 1.0
    if len(leaves) > 1 and leaves[-2] > 0:
        falls = min(1.0, max(0.0, leaves[-1] / leaves[-2]))
    found, share = list(alive), leaves[-1]
    for _ in range(most - len(alive) + 1):
        share *= falls
        found.append(found[-1] * (1 - share))
    return found
