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

Which prefixes there are depends on the settings, too: a guard keeps candidates in proportion to
``pi(s) a(s)``, with ``a`` its acceptance probability. So each prefix counts with ``prod a(s) / E[a]`` over
its segments, the expectation taken over the candidates drawn there. Prefixes that were drawn under several
settings are one sample of the mixture of their laws (the balance heuristic: Veach and Guibas, "Optimally
combining sampling techniques", SIGGRAPH 1995).

Where patience gives segments up, fewer attempts are made: see :mod:`stars_guard.calibration.courses`.

With few candidates ``E[a]`` is rough, and answers of the model alone are then weighed too evenly. For answers
drawn under similar settings that cancels out, so a promise should rest on those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Best, Last
from stars_guard.calibration.courses import Course, attempts_in_vain, course
from stars_guard.calibration.description import Figures
from stars_guard.calibration.draw import probabilities
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.types import Channel


class Promise(Figures):
    """What settings do on the sampled prefixes."""

    acceptance: float
    """Accepted over judged candidates, all segments together, as a trace reports it."""
    attempts: float
    """Candidates judged per segment."""
    forced: float
    """Share of segments in which every attempt is rejected, so that the exhaustion policy decides."""
    standard_error: float
    """Standard error of ``acceptance``, by leaving out one prompt at a time; 0 with a single prompt."""
    made: tuple[float, ...]
    """The chance that a first, second, ... attempt at a segment is made."""


@dataclass(frozen=True)
class Drawn:
    """The answers of one round."""

    answers: Sequence[SampledAnswer]
    config: GuardConfig | None = None
    """The guard under which they were drawn; None is the model alone."""


class Weighed(NamedTuple):
    """A prefix as some settings would leave it."""

    weight: float
    """How much likelier than where it was drawn."""
    answer: SampledAnswer
    position: SampledPosition
    likely: list[float]
    """Acceptance probability of each candidate."""


Where = Callable[[SampledPosition], bool]
"""Which prefixes are looked at."""


class Pool:
    """The answers of all rounds, to be weighed as any guard would leave them.

    Args:
        rounds: at least one; every answer has as many candidates at each prefix.
    """

    def __init__(self, *rounds: Drawn) -> None:
        self.answers = [answer for drawn in rounds for answer in drawn.answers]
        mixture = [(r.config, len(r.answers) / len(self.answers)) for r in rounds if r.answers]
        self._drawn = [_densities(answer, mixture) for answer in self.answers]

    def weighed(self, config: GuardConfig) -> Iterator[Weighed]:
        """Every prefix, as ``config`` would leave it."""
        forced_from = _forced_from(config)
        for answer, drawn in zip(self.answers, self._drawn, strict=True):
            reached = 1.0
            for position, density in zip(answer.positions, drawn, strict=True):
                likely = probabilities(config, position, answer.max_tokens, answer.base_reward)
                yield Weighed(reached / density, answer, position, likely)
                reached *= _share(likely, position.chosen) * (
                    1 - _refused(config, forced_from, position, likely)
                )

    def promise(self, config: GuardConfig, where: Where | None = None) -> Promise:
        """What a guard with these settings does on the prefixes that it leaves."""
        return _promise(self.weighed(config), config, where)

    def acceptance(self, config: GuardConfig, where: Where | None = None) -> float:
        """The acceptance rate alone."""
        return _acceptance(_sum(_by_prompt(self.weighed(config), config, where).values()))


def promise(answers: Sequence[SampledAnswer], config: GuardConfig) -> Promise:
    """What a guard with these settings does on the prefixes as they are.

    Those of the model alone understate what a guard accepts later on, since accepted prefixes score higher.
    """
    as_they_are = (
        Weighed(1.0, answer, position, probabilities(config, position, answer.max_tokens, answer.base_reward))
        for answer in answers
        for position in answer.positions
    )
    return _promise(as_they_are, config, None)


def _promise(prefixes: Iterator[Weighed], config: GuardConfig, where: Where | None) -> Promise:
    sums = list(_by_prompt(prefixes, config, where).values())
    total = _sum(sums)
    without = [
        _acceptance(total.plus(left_out, -1.0))
        for left_out in sums
        if len(sums) > 1 and total.made[0] > left_out.made[0]
    ]
    made = total.made_chances
    return Promise(
        acceptance=_acceptance(total),
        attempts=sum(made),
        forced=1 - total.accepted,
        standard_error=jackknife(without),
        made=tuple(made),
    )


def _by_prompt(prefixes: Iterator[Weighed], config: GuardConfig, where: Where | None) -> dict[int, Course]:
    """By prompt: the weighted sums of what becomes of the attempts at its prefixes."""
    sums: dict[int, Course] = {}
    for weight, answer, position, likely in prefixes:
        if where is None or where(position):
            here = course(likely, config.patience, config.max_attempts)
            before = sums.get(answer.prompt)
            sums[answer.prompt] = here.plus(here, weight - 1) if before is None else before.plus(here, weight)
    return sums


def _sum(courses: Iterable[Course]) -> Course:
    return reduce(lambda total, each: total.plus(each, 1.0), courses)


def _acceptance(total: Course) -> float:
    return total.accepted / sum(total.made_chances)


def jackknife(without: Sequence[float]) -> float:
    """The standard error of an estimate, from what it is when each part of the data is left out in turn."""
    if len(without) < 2:
        return 0.0
    mean = sum(without) / len(without)
    return math.sqrt((len(without) - 1) / len(without) * sum((estimate - mean) ** 2 for estimate in without))


def _densities(answer: SampledAnswer, mixture: Sequence[tuple[GuardConfig | None, float]]) -> list[float]:
    """By position: how likely its prefix was to be drawn, over how likely it is for the model alone."""
    densities, ratios = [], [1.0] * len(mixture)
    for position in answer.positions:
        densities.append(sum(part * ratio for (_, part), ratio in zip(mixture, ratios, strict=True)))
        ratios = [
            ratio * _share_of(config, answer, position)
            for (config, _), ratio in zip(mixture, ratios, strict=True)
        ]
    return densities


def _share_of(config: GuardConfig | None, answer: SampledAnswer, position: SampledPosition) -> float:
    if config is None:
        return 1.0
    likely = probabilities(config, position, answer.max_tokens, answer.base_reward)
    return _share(likely, position.chosen)


def _share(likely: Sequence[float], chosen: int) -> float:
    """The chosen candidate's acceptance probability over that of all, 1 on average."""
    total = sum(likely)
    return likely[chosen] * len(likely) / total if total > 0 else 1.0


def _forced_from(config: GuardConfig) -> float:
    """The lowest reward of a position's best candidate with which a segment is forced."""
    if isinstance(config.exhaustion, Best):
        return config.forced_from(Channel.ANSWER)
    return config.lowest if isinstance(config.exhaustion, Last) else math.inf


def _refused(
    config: GuardConfig, forced_from: float, position: SampledPosition, likely: Sequence[float]
) -> float:
    """The chance that the answer ends here, for want of an acceptable segment."""
    if max(position.rewards) >= forced_from:
        return 0.0
    attempts = attempts_in_vain(likely, config.patience, config.max_attempts)
    return float((1 - sum(likely) / len(likely)) ** attempts)
