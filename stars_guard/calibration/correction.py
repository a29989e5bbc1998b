"""Measures the prefix correction: isotonic regression, per position, from partial score to final score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.rewards.corrected import Correction, PositionMap

MIN_ROWS = 50
"""Fewest rows that a position is fitted from; positions with fewer are pooled with their neighbours."""

ScoredPrefix: TypeAlias = tuple[int, float, float]
"""Response tokens, partial score, final score."""


def fit_correction(
    tokens: Sequence[int], partial: Sequence[float], final: Sequence[float], *, min_rows: int = MIN_ROWS
) -> Correction:
    """The monotone least-squares map from partial score to final score, for each position.

    Isotonic regression is the fit under the one assumption made: at a given position, a better partial score
    does not foretell a worse answer. Answers should be drawn as in use, and the partial scores taken at the
    ends of segments.

    Args:
        tokens: response tokens at which each partial score was taken.
        partial: score of the prefix.
        final: score of the finished answer that the prefix became.
        min_rows: fewest rows per position. Neighbouring positions with fewer are pooled, to stand at their
            mean position.

    Raises:
        ConfigurationError: the lists differ in length, hold something unusable, or fewer than ``min_rows``.
    """
    rows = _rows(tokens, partial, final)
    if min_rows < 2:
        raise ConfigurationError(f"min_rows={min_rows} must be at least 2; one row shows no slope")
    if len(rows) < min_rows:
        raise ConfigurationError(f"{len(rows)} rows are too few for a correction; give at least {min_rows}")
    return Correction(maps=tuple(_fitted(pool) for pool in _pools(rows, min_rows)))


def correction_rows(answers: Iterable[SampledAnswer]) -> tuple[list[int], list[float], list[float]]:
    """The arguments of :func:`fit_correction` from drawn answers: each of their prefixes, the empty one, too.

    Finished answers are left out, since a guard does not correct them. One that was cut off at its longest is
    its own final answer, which anchors the map there.
    """
    rows = [row for answer in answers for row in _prefixes(answer)]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _prefixes(answer: SampledAnswer) -> list[ScoredPrefix]:
    prefixes = [
        (position.tokens[position.chosen], position.rewards[position.chosen], answer.final_reward)
        for position in (answer.positions[:-1] if answer.finished else answer.positions)
    ]
    return [(0, answer.base_reward, answer.final_reward), *prefixes]


def _rows(tokens: Sequence[int], partial: Sequence[float], final: Sequence[float]) -> list[ScoredPrefix]:
    if not len(tokens) == len(partial) == len(final):
        raise ConfigurationError(
            f"{len(tokens)} positions, {len(partial)} partial and {len(final)} final scores; give one per row"
        )
    rows = [(int(t), float(p), float(f)) for t, p, f in zip(tokens, partial, final, strict=True)]
    for row in rows:
        if row[0] < 0 or not all(map(math.isfinite, row)):
            raise ConfigurationError(f"row {row} is unusable; give tokens from 0 and finite scores")
    return sorted(rows)


def _pools(rows: Sequence[ScoredPrefix], min_rows: int) -> list[list[ScoredPrefix]]:
    """Rows by position, neighbours put together until each pool has enough; a short rest joins the last."""
    pools: list[list[ScoredPrefix]] = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        if pools and len(pools[-1]) < min_rows:
            pools[-1].extend(group)
        else:
            pools.append(list(group))
    if len(pools[-1]) < min_rows:
        rest = pools.pop()
        pools[-1].extend(rest)
    return pools


def _fitted(pool: Sequence[ScoredPrefix]) -> PositionMap:
    with needs_extra("calibrate", "scikit-learn"):
        from sklearn.isotonic import IsotonicRegression
    positions, partial, final = zip(*pool, strict=True)
    fit = IsotonicRegression().fit(partial, final)
    return PositionMap(
        tokens=round(sum(positions) / len(positions)),
        partial=tuple(map(float, fit.X_thresholds_)),
        final=tuple(map(float, fit.y_thresholds_)),
    )


def corrected_answers(answers: Iterable[SampledAnswer], correction: Correction) -> list[SampledAnswer]:
    """Answers with their rewards as a corrected reward would have given them."""
    return [_corrected(answer, correction) for answer in answers]


def _corrected(answer: SampledAnswer, correction: Correction) -> SampledAnswer:
    positions = tuple(_corrected_position(position, correction) for position in answer.positions)
    base = correction.final_of(answer.base_reward, 0)
    return answer.model_copy(update={"positions": positions, "base_reward": base})


def _corrected_position(position: SampledPosition, correction: Correction) -> SampledPosition:
    finished = position.finished or (False,) * len(position.rewards)
    rewards = tuple(
        reward if whole else correction.final_of(reward, tokens)
        for reward, tokens, whole in zip(position.rewards, position.tokens, finished, strict=True)
    )
    return position.model_copy(update={"rewards": rewards})
