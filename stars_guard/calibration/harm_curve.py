"""The curve of harm against cost: what candidate settings would do, foretold from answers that were drawn.

The answers are those of the model alone, with several candidates at each prefix, weighed as each setting
would leave them (:mod:`stars_guard.calibration.promises`): no segment length is spoken of that was not drawn.
Where a setting allows more attempts than there are candidates, what becomes of the others is guessed
(:mod:`stars_guard.calibration.courses`). Every setting has one threshold for all positions and refuses where
nothing is accepted. Pure functions of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Refuse
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.courses import course
from stars_guard.calibration.description import Estimate, Figures
from stars_guard.calibration.draw import probabilities
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.calibration.statistics import RESAMPLES
from stars_guard.errors import ConfigurationError

SEGMENTS = (8, 16, 32)
"""Segment lengths that are tried, in tokens."""
ATTEMPTS = (2, 4, 8, 20)
"""Candidates judged per segment."""
QUANTILES = (0.1, 0.25, 0.5, 0.75)
"""Targets, as shares of the model's own final rewards that are under them."""

Unsafe: TypeAlias = Callable[[float], float]
"""How likely a text is unsafe, in [0, 1], by its reward."""
_Sums: TypeAlias = NDArray[np.float64]
_SHOWN, _UNSAFE, _DRAWN, _STEPS, _REFUSED, _ANSWERS, _ACCEPTED, _JUDGED = range(8)


class CurvePoint(Figures):
    """One setting, and what it would do."""

    segment_tokens: int
    max_attempts: int
    quantile: float
    """Share of the model's own final rewards that are under the target."""
    target: float
    candidates: int
    """Candidates drawn at once, as the drawing policy begins an answer."""
    acceptance: Estimate
    """Accepted over judged candidates."""
    unsafe: Estimate
    """Share of the shown tokens that are unsafe."""
    refused: Estimate
    """Share of the answers that are refused."""
    tokens: Estimate
    """Tokens drawn for each one shown."""
    steps: Estimate
    """Decoding steps for each token shown; plain decoding takes 1."""
    cost: Estimate
    """Steps and further candidates together, for each token shown, as the drawing policy weighs them."""
    front: bool = False
    """Whether no other setting is as good in harm, refusals and cost, and better in one."""


class HarmCurve(Figures):
    """Candidate settings with what each would do."""

    unsafe_means: str
    """What counts as unsafe, in words."""
    plain_unsafe: Estimate
    """Share of the model's own tokens that are unsafe."""
    points: tuple[CurvePoint, ...]
    proposed: CurvePoint | None = None
    """The cheapest setting that meets the aim; None without an aim."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a proposed setting must keep.

    Attributes:
        harm: highest share of shown tokens that are unsafe, in [0, 1]; the interval's upper end counts.
        refused: highest share of answers that are refused, likewise.
        tokens: most tokens drawn for each one shown; the estimate itself counts.
    """

    harm: float | None = None
    refused: float | None = None
    tokens: float | None = None

    def met(self, point: CurvePoint) -> bool:
        """Whether a setting keeps all of it."""
        bounds = (
            (self.harm, _upper(point.unsafe)),
            (self.refused, _upper(point.refused)),
            (self.tokens, _known(point.tokens)),
        )
        return all(most is None or value <= most for most, value in bounds)


def setting(base: GuardConfig, segment_tokens: int, max_attempts: int, target: float) -> GuardConfig:
    """The settings of a point of the curve.

    Args:
        base: gives acceptance rule, patience and drawing policy.
        segment_tokens: longest segment.
        max_attempts: candidates judged per segment.
        target: the threshold everywhere.
    """
    return base.changed(
        threshold=Constant(target=target),
        segments=FixedLength(max_tokens=segment_tokens),
        max_attempts=max_attempts,
        exhaustion=Refuse(),
        floor=None,
        escalation=(),
    )


def harm_curve(
    drawn: Mapping[int, Sequence[SampledAnswer]],
    base: GuardConfig,
    unsafe: Unsafe,
    unsafe_means: str,
    aim: Aim | None = None,
) -> HarmCurve:
    """All combinations of the drawn segment lengths with :data:`ATTEMPTS` and :data:`QUANTILES`.

    Args:
        drawn: answers of the model alone, at least one, by the longest segment that they were drawn with.
        base: gives acceptance rule, patience and drawing policy.
        unsafe: how likely a text is unsafe, by its reward.
        unsafe_means: that in words.
        aim: what the proposed setting must keep; None proposes none.

    Raises:
        ConfigurationError: no setting meets the aim.
    """
    finals = [answer.final_reward for answers in drawn.values() for answer in answers]
    targets = dict(zip(QUANTILES, map(float, np.quantile(finals, QUANTILES)), strict=True))
    points = [
        _point(answers, setting(base, length, most, targets[quantile]), quantile, unsafe)
        for (length, answers), most, quantile in product(drawn.items(), ATTEMPTS, QUANTILES)
    ]
    plain = [(answer.prompt, _plain(answer, unsafe)) for answer in next(iter(drawn.values()))]
    marked = marked_front(points)
    return HarmCurve(
        unsafe_means=unsafe_means,
        plain_unsafe=_ratio(_by_prompt(plain), _UNSAFE, _SHOWN),
        points=tuple(marked),
        proposed=None if aim is None else cheapest(marked, aim),
    )


def marked_front(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points, with those marked that no other dominates."""
    places = [(_known(p.unsafe), _known(p.refused), _known(p.cost)) for p in points]

    def dominated(place: tuple[float, ...]) -> bool:
        return any(
            other != place and all(a <= b for a, b in zip(other, place, strict=True)) for other in places
        )

    return [
        point.model_copy(update={"front": not dominated(place)})
        for point, place in zip(points, places, strict=True)
    ]


def cheapest(points: Sequence[CurvePoint], aim: Aim) -> CurvePoint:
    """The cheapest setting that meets the aim; where no harm is in it, the one with the least harm.

    Args:
        points: at least one.
        aim: what must be kept.

    Raises:
        ConfigurationError: none does.
    """
    met = [point for point in points if aim.met(point)]
    if not met:
        least = min(_upper(point.unsafe) for point in points)
        raise ConfigurationError(
            f"no setting of the {len(points)} tried keeps harm={aim.harm}, refused={aim.refused}, "
            f"tokens={aim.tokens}; the least harm of any is {least:.3g}, at the upper end of its interval: "
            "ask for less, draw more prompts, or use a reward that tells safe from unsafe better"
        )
    order = ("unsafe", "cost") if aim.harm is None else ("cost", "unsafe")
    return min(met, key=lambda point: [_known(getattr(point, name)) for name in (*order, "refused")])


def _point(
    answers: Sequence[SampledAnswer], config: GuardConfig, quantile: float, unsafe: Unsafe
) -> CurvePoint:
    segments, attempts = config.segments.max_tokens, config.patience.further((), config.max_attempts)
    candidates = config.drawing.plan((), segments, attempts).candidates
    foretold = [(answer.prompt, _foretold(answer, config, candidates, unsafe)) for answer in answers]
    sums = _by_prompt(foretold)
    # One round costs a step for each token, and a share of it for every candidate but the first.
    row_cost = getattr(config.drawing, "row_cost", 1.0)
    weighed = np.column_stack([sums, (1 - row_cost) * sums[:, _STEPS] + row_cost * sums[:, _DRAWN]])
    return CurvePoint(
        segment_tokens=segments,
        max_attempts=config.max_attempts,
        quantile=quantile,
        target=config.threshold.target,
        candidates=candidates,
        acceptance=_ratio(sums, _ACCEPTED, _JUDGED),
        unsafe=_ratio(sums, _UNSAFE, _SHOWN),
        refused=_ratio(sums, _REFUSED, _ANSWERS),
        tokens=_ratio(sums, _DRAWN, _SHOWN),
        steps=_ratio(sums, _STEPS, _SHOWN),
        cost=_ratio(weighed, -1, _SHOWN),
    )


def _foretold(answer: SampledAnswer, config: GuardConfig, candidates: int, unsafe: Unsafe) -> _Sums:
    """What becomes of an answer, in expectation, each prefix weighed as the setting would leave it."""
    sums, reached = np.zeros(8), 1.0
    sums[_ANSWERS] = 1.0
    for position in answer.positions:
        likely = probabilities(config, position, answer.max_tokens, answer.base_reward)
        here = course(likely, config.patience, config.max_attempts)
        accepted, total = here.accepted, sum(likely)
        lengths = _lengths(position)
        rounds = here.made_chances[::candidates]
        drawn = sum(
            chance * min(candidates, config.max_attempts - number * candidates)
            for number, chance in enumerate(rounds)
        )
        width = reached * sum(lengths) / len(lengths)
        sums[_STEPS] += width * sum(rounds)
        sums[_DRAWN] += width * drawn
        sums[_REFUSED] += reached * (1 - accepted)
        sums[_ACCEPTED] += reached * accepted
        sums[_JUDGED] += reached * sum(here.made_chances)
        if total == 0:
            return sums
        shown = [chance / total * tokens for chance, tokens in zip(likely, lengths, strict=True)]
        sums[_SHOWN] += reached * accepted * sum(shown)
        harm = sum(t * unsafe(reward) for t, reward in zip(shown, position.rewards, strict=True))
        sums[_UNSAFE] += reached * accepted * harm
        reached *= accepted * likely[position.chosen] * len(likely) / total
    return sums


def _plain(answer: SampledAnswer, unsafe: Unsafe) -> _Sums:
    sums = np.zeros(8)
    for position in answer.positions:
        tokens = _lengths(position)[position.chosen]
        sums[_SHOWN] += tokens
        sums[_UNSAFE] += tokens * unsafe(position.rewards[position.chosen])
    return sums


def _lengths(position: SampledPosition) -> list[int]:
    return [tokens - position.prefix_tokens for tokens in position.tokens]


def _by_prompt(sums: Sequence[tuple[int, _Sums]]) -> _Sums:
    """The sums of each prompt, a row a prompt: answers to one are dependent."""
    prompts = sorted({prompt for prompt, _ in sums})
    rows = [np.sum([part for of, part in sums if of == prompt], axis=0) for prompt in prompts]
    return np.array(rows, dtype=np.float64)


def _ratio(sums: _Sums, above: int, below: int) -> Estimate:
    """A ratio of sums, with the interval from resampling prompts."""
    total = sums.sum(axis=0)
    if total[below] <= 0:
        return Estimate(value=None)
    value = float(total[above] / total[below])
    if len(sums) < 2:
        return Estimate(value=value)
    dice = np.random.default_rng(0)
    drawn = sums[dice.integers(len(sums), size=(RESAMPLES, len(sums)))].sum(axis=1)
    defined = drawn[drawn[:, below] > 0]
    low, high = np.quantile(defined[:, above] / defined[:, below], (0.025, 0.975))
    return Estimate(value=value, low=float(low), high=float(high))


def _known(estimate: Estimate) -> float:
    return float("inf") if estimate.value is None else estimate.value


def _upper(estimate: Estimate) -> float:
    return _known(estimate) if estimate.high is None else estimate.high
