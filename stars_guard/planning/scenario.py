"""What a plan is made from: the guard's settings, the speed of engine and reward, the traffic, the prices."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from stars_guard.settings import Settings

Share = Annotated[float, Field(gt=0, le=1)]
Weights = Annotated[dict[int, Annotated[float, Field(gt=0)]], Field(min_length=1)]
"""How likely each number is, up to a factor."""


class SimulatedEngine(Settings):
    """One replica of the inference engine."""

    tokens_per_second: dict[int, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Decoding speed of the whole batch, by sequences in it; linear in between, level beyond the largest."""
    prefill_per_second: float = Field(gt=0)
    """Prompt tokens read a second. Decoding waits meanwhile."""

    @field_validator("tokens_per_second")
    @classmethod
    def _rises(cls, points: dict[int, float]) -> dict[int, float]:
        ordered = _ordered(points, "a batch has 1 sequence or more")
        if any(later < earlier for earlier, later in pairwise(ordered.values())):
            raise ValueError("more sequences must not be slower together; measure again, or leave points out")
        return ordered

    @property
    def max_batch(self) -> int:
        """Most sequences at once: the largest that was measured."""
        return max(self.tokens_per_second)

    def speed(self, batch: int) -> float:
        """Tokens a second of each sequence, with so many in the batch; 1 or more."""
        sizes, speeds = list(self.tokens_per_second), list(self.tokens_per_second.values())
        after = bisect_right(sizes, batch)
        if after == len(sizes):
            return speeds[-1] / batch
        low, slow = (sizes[after - 1], speeds[after - 1]) if after else (0, 0.0)
        return (slow + (speeds[after] - slow) * (batch - low) / (sizes[after] - low)) / batch

    @property
    def peak(self) -> float:
        """Tokens a second with a full batch."""
        return self.tokens_per_second[self.max_batch]


class Stage(Settings):
    """One replica of something that takes candidates and lets them through after a while."""

    fixed: float = Field(ge=0)
    """Seconds a call."""
    per_candidate: float = Field(ge=0)
    """Seconds more for each candidate of the call."""
    max_batch: int = Field(default=1, ge=1)
    """Most candidates in a call."""

    def seconds(self, candidates: int) -> float:
        """What a call takes."""
        return self.fixed + self.per_candidate * candidates

    @property
    def peak(self) -> float:
        """Candidates a second with full calls; infinite if they cost nothing."""
        full = self.seconds(self.max_batch)
        return self.max_batch / full if full else float("inf")


class Guarding(Settings):
    """What the guard does to an answer."""

    attempts: Weights
    """Candidates judged until one is accepted, or forced, by how likely that is."""
    segment_tokens: int = Field(default=32, ge=1)
    candidates: int = Field(default=1, ge=1)
    """Drawn and scored a round."""
    ahead: bool = True
    """Whether the next segment is drawn while the current is scored, where the engine has room."""

    @field_validator("attempts")
    @classmethod
    def _counts(cls, attempts: dict[int, float]) -> dict[int, float]:
        return _ordered(attempts, "a segment takes 1 attempt or more")


class Traffic(Settings):
    """What is asked: requests arrive by a Poisson process."""

    requests_per_second: float = Field(gt=0)
    prompt_tokens: int = Field(ge=0)
    answer_tokens: Weights
    """Lengths of answers, by how likely each is."""

    @field_validator("answer_tokens")
    @classmethod
    def _lengths(cls, lengths: dict[int, float]) -> dict[int, float]:
        return _ordered(lengths, "an answer has 1 token or more")


class Scenario(Settings):
    """All that a simulation needs to know, but for the number of machines."""

    engine: SimulatedEngine
    reward: Stage
    guard: Stage = Stage(fixed=0.0, per_candidate=0.0)
    """The guard's own work on a round, one round at a time in a process."""
    guarding: Guarding
    traffic: Traffic

    @model_validator(mode="after")
    def _fits(self) -> Scenario:
        if self.guarding.candidates > self.engine.max_batch:
            raise ValueError(
                f"{self.guarding.candidates} candidates a round do not fit an engine that was measured with "
                f"{self.engine.max_batch} sequences at most"
            )
        if self.guarding.candidates > self.reward.max_batch:
            raise ValueError(
                f"{self.guarding.candidates} candidates a round do not fit a reward call of "
                f"{self.reward.max_batch} at most; raise its max_batch"
            )
        return self


class Fleet(Settings):
    """How many replicas there are of each."""

    engines: int = Field(ge=1)
    rewards: int = Field(ge=1)
    guards: int = Field(default=1, ge=1)


def geometric(acceptance: float, most: int) -> dict[int, float]:
    """Attempts a segment takes when each is accepted with this chance, and the last in any case.

    Args:
        acceptance: in (0, 1].
        most: 1 or more.
    """
    reject = 1 - acceptance
    chances = {count: acceptance * reject ** (count - 1) for count in range(1, most)}
    chances[most] = reject ** (most - 1)
    return {count: weight for count, weight in chances.items() if weight > 0}


def mean(weights: dict[int, float]) -> float:
    """The expectation."""
    return sum(value * weight for value, weight in weights.items()) / sum(weights.values())


def _ordered(by_count: dict[int, float], rule: str) -> dict[int, float]:
    """By rising count, which is 1 or more; ``rule`` says so of what is counted."""
    if min(by_count) < 1:
        raise ValueError(f"{rule}, not {min(by_count)}")
    return dict(sorted(by_count.items()))
