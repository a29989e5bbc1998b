"""The truth that calibration is held against: a model given as a table, and its rates by enumeration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Position, Table
from stars_guard.rewards.base import ScoreRequest
from stars_guard.testing import TabularModel
from stars_guard.types import Reward

MAX_TOKENS = 4
VOCABULARY = ("a", "b", ".")
EOS = len(VOCABULARY)
_WEIGHTS = ((4, 2, 2, 1), (1, 3, 2, 1), (3, 1, 1, 2), (2, 2, 3, 1))
_SEGMENT = 2


def distribution(ids: tuple[int, ...]) -> list[float]:
    """Next-token probabilities: they depend on the last token and on the length."""
    weights = _WEIGHTS[(2 * len(ids) + (ids[-1] if ids else 0)) % len(_WEIGHTS)]
    return [weight / sum(weights) for weight in weights]


MODEL = TabularModel(distribution, (*VOCABULARY, ""), eos=EOS)


def value(text: str) -> float:
    """A reward that a good beginning raises for good, so that accepted prefixes differ from others."""
    return round(sum((0.9, -0.8, 0.1)[VOCABULARY.index(one)] / (n + 1) for n, one in enumerate(text)), 6)


class TextReward:
    name = "text"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        return [Reward(value(one.response)) for one in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


REWARD = TextReward()


@dataclass(frozen=True)
class Rates:
    acceptance: float
    attempts: float
    forced: float


def unguarded_rate(config: GuardConfig) -> Rates:
    """On the prefixes of the model alone."""
    return _rates(config, guarded=False)


def guarded_rate(config: GuardConfig) -> Rates:
    """On the prefixes that the guard leaves; an exhausted segment is forced with the best candidate, or ends
    the answer where even that is under the floor."""
    return _rates(config, guarded=True)


def _rates(config: GuardConfig, *, guarded: bool) -> Rates:
    judged = accepted = segments = 0.0
    masses = {(): 1.0}
    for number in range(MAX_TOKENS // _SEGMENT):
        following: dict[tuple[int, ...], float] = defaultdict(float)
        for prefix, mass in masses.items():
            pi = dict(_segments(prefix))
            a = {one: _probability(config, prefix + one, number) for one in pi}
            q = 1 - sum(pi[one] * a[one] for one in pi)
            exhausted = q**config.max_attempts
            segments += mass
            judged += mass * sum(q**j for j in range(config.max_attempts))
            accepted += mass * (1 - exhausted)
            law = pi if not guarded else _kept(config, prefix, pi, a, q)
            for one, share in law.items():
                if one[-1] != EOS and len(prefix + one) < MAX_TOKENS:
                    following[prefix + one] += mass * share
        masses = following
    return Rates(accepted / judged, judged / segments, 1 - accepted / segments)


def _kept(
    config: GuardConfig,
    prefix: tuple[int, ...],
    pi: dict[tuple[int, ...], float],
    a: dict[tuple[int, ...], float],
    q: float,
) -> dict[tuple[int, ...], float]:
    """The segment that the answer goes on with."""
    exhausted = q**config.max_attempts
    law = {one: (1 - exhausted) * pi[one] * a[one] / (1 - q) if q < 1 else 0.0 for one in pi}
    if exhausted < 1e-12:
        return law
    rejected = {one: pi[one] * (1 - a[one]) / q for one in pi}
    reward = {one: value(_text(prefix + one)) for one in pi}
    for one, own in rejected.items():
        if reward[one] < config.lowest:
            continue
        under = sum(share for other, share in rejected.items() if reward[other] < reward[one])
        equal = sum(share for other, share in rejected.items() if reward[other] == reward[one])
        top = (under + equal) ** config.max_attempts - under**config.max_attempts
        law[one] += exhausted * top * own / equal if equal else 0.0
    return law


def _segments(prefix: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], float]]:
    for first, likely in enumerate(distribution(prefix)):
        if first == EOS:
            yield (first,), likely
            continue
        for second, then in enumerate(distribution((*prefix, first))):
            yield (first, second), likely * then


def _probability(config: GuardConfig, ids: tuple[int, ...], number: int) -> float:
    reward, floor = value(_text(ids)), config.lowest
    at = Position(len(ids), number + 1, MAX_TOKENS, base_reward=value(""), floor=floor)
    bar = config.threshold.threshold(at)
    if config.final_at_target and ids[-1] == EOS and not isinstance(config.threshold, Table):
        bar = max(bar, config.threshold.target)
    return config.acceptance.probability(reward, bar) if reward >= floor else 0.0


def _text(ids: tuple[int, ...]) -> str:
    return "".join(VOCABULARY[one] for one in ids if one != EOS)
