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

With few candidates ``E[a]`` is rough, and answers of the model alone are then weighed too evenly. For answers
drawn under similar settings that cancels out, so a promise should rest on those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Best, Last
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
        sums = _by_prompt(self.weighed(config), where)
        return _acceptance([sum(column) for column in zip(*sums.values(), strict=True)], config)


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
    sums = list(_by_prompt(prefixes, where).values())
    total = [sum(column) for column in zip(*sums, strict=True)]
    alive = continued([mass / total[0] for mass in total], config.max_attempts)
    without = [
        _acceptance([all_ - part for all_, part in zip(total, left_out, strict=True)], config)
        for left_out in sums
        if len(sums) > 1 and total[0] > left_out[0]
    ]
    return Promise(
        acceptance=_acceptance(total, config),
        attempts=sum(alive[:-1]),
        forced=alive[-1],
        standard_error=jackknife(without),
    )


def _by_prompt(prefixes: Iterator[Weighed], where: Where | None) -> dict[int, list[float]]:
    """By prompt: the weighted sums of ``q**j``, from ``j = 0`` on, which is the weight itself."""
    sums: dict[int, list[float]] = {}
    for weight, answer, position, likely in prefixes:
        if where is None or where(position):
            powers = product_means([1 - chance for chance in likely])
            before = sums.get(answer.prompt) or [0.0] * len(powers)
            sums[answer.prompt] = [a + weight * b for a, b in zip(before, powers, strict=True)]
    return sums


def _acceptance(sums: Sequence[float], config: GuardConfig) -> float:
    alive = continued([mass / sums[0] for mass in sums], config.max_attempts)
    return (1 - alive[-1]) / sum(alive[:-1])


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
    return float((1 - sum(likely) / len(likely)) ** config.max_attempts)


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
