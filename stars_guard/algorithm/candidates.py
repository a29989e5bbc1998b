"""How candidates are drawn: how many at once, how long, how strict, and each attempt from where.

The settings here are fixed, or adapt to the run's history.

Draws judged within a segment are i.i.d. and adaptation happens between segments only, so each segment's law
stays exact for its own parameters. The number of candidates per round never changes the law at all: they are
judged in index order, each with its own uniform draw.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from stars_guard.algorithm.escalation import (
    MODEL,
    RETRY,
    Backtrack,
    Escalation,
    OtherSource,
    Redraw,
    SaferModel,
    SafetyHint,
    TemperatureLadder,
)
from stars_guard.algorithm.kinds import any_kind
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.rules import expected_attempts, shown_chance
from stars_guard.settings import Computable, Settings


@dataclass(frozen=True, slots=True)
class SegmentTally:
    """What it took to decide one earlier segment."""

    attempts: int
    """Candidates judged."""
    accepted: bool
    """False when the segment was forced."""


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """The parameters of one segment, fixed while it is being decided."""

    candidates: int
    """Candidates drawn per round."""
    max_tokens: int
    """Longest segment, in tokens."""
    threshold_shift: float = 0.0
    """Added to the schedule's threshold, in reward units."""


ROW_COSTS = {"time": 0.08, "tokens": 1.0}
"""What one more candidate in a round costs, by name of what is to be spent least."""
UNLIMITED = sys.maxsize
"""More attempts than anybody makes."""


def _row_cost(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in ROW_COSTS:
        raise ValueError(f"should be a number, or one of {', '.join(map(repr, ROW_COSTS))}")
    return ROW_COSTS[value]


RowCost: TypeAlias = Annotated[float, BeforeValidator(_row_cost), Field(ge=0)]
"""What one more candidate in a round costs, as a share of a round with one, or its name."""


class Fixed(Settings):
    """A number of candidates that is the same in every round."""

    kind: Literal["fixed"] = "fixed"
    candidates: int = Field(default=2, ge=1, le=64)
    """Candidates drawn per round."""

    def plan(
        self, history: Sequence[SegmentTally], max_tokens: int, attempts: int = UNLIMITED
    ) -> SegmentPlan:
        """The plan, which is the same for every segment."""
        return SegmentPlan(self.candidates, max_tokens)


class Adaptive(Settings):
    """Spend least on a segment, by the acceptance rate seen so far in this answer, within bounds.

    The rate is the posterior mean ``(2 prior_rate + accepted) / (2 + judged)`` over the last ``memory``
    segments. What is spent least, tokens or time, is what ``row_cost`` says.
    """

    kind: Literal["adaptive"] = "adaptive"
    min_candidates: int = Field(default=1, ge=1, le=64)
    """Fewest candidates per round."""
    max_candidates: int = Field(default=8, ge=1, le=64)
    """Most candidates per round."""
    row_cost: RowCost = ROW_COSTS["time"]
    """What one more candidate in a round costs, as a share of a round with one. ``tokens``, which is 1, draws
    one at a time, and so the fewest tokens. ``time``, which is 0.08, makes few rounds; it depends on the
    hardware, so measure it with ``make bench``. Numbers between weigh one against the other."""
    prior_rate: Computable = Field(default=0.5, gt=0, lt=1)
    """Acceptance rate that an answer begins with, which counts as two candidates. The higher, the fewer are
    drawn beside the first accepted one. ``stars-guard calibrate`` sets the rate that it foretells."""
    memory: int = Field(default=8, ge=1)
    """Segments looked back at."""
    segment_tokens: tuple[int, int] | None = None
    """Shortest and longest segment when lengths adapt (short where rejections are frequent); None: fixed."""
    slack: float = Field(default=0.0, ge=0)
    """Most reward units by which the threshold is lowered while acceptance is under ``target_rate``."""
    target_rate: Computable = Field(default=0.2, gt=0, lt=1)
    """Acceptance rate under which ``slack`` is given, in proportion."""

    @model_validator(mode="after")
    def _ordered(self) -> Adaptive:
        if self.min_candidates > self.max_candidates:
            raise ValueError(
                f"min_candidates={self.min_candidates} is over max_candidates={self.max_candidates}"
            )
        if self.segment_tokens and not 1 <= self.segment_tokens[0] <= self.segment_tokens[1]:
            raise ValueError(f"segment_tokens={self.segment_tokens} must be (shortest, longest), 1 or more")
        return self

    def plan(
        self, history: Sequence[SegmentTally], max_tokens: int, attempts: int = UNLIMITED
    ) -> SegmentPlan:
        """The plan for the next segment, from the outcomes of the earlier ones.

        Args:
            history: how the earlier segments were decided, in order.
            max_tokens: longest segment, where lengths do not adapt.
            attempts: that are made where none is accepted.
        """
        rate = self.acceptance_rate(history)
        candidates = self._candidates(rate, attempts)
        return SegmentPlan(candidates, self._length(rate, max_tokens), self._shift(rate))

    def acceptance_rate(self, history: Sequence[SegmentTally]) -> float:
        """Posterior mean acceptance probability, under a prior that counts as two candidates."""
        recent = history[-self.memory :]
        accepted = sum(past.accepted for past in recent)
        return (2 * self.prior_rate + accepted) / (2 + sum(past.attempts for past in recent))

    def _candidates(self, rate: float, attempts: int) -> int:
        numbers = range(self.min_candidates, self.max_candidates + 1)
        return min(numbers, key=lambda number: self._expected_cost(number, rate, attempts))

    def _expected_cost(self, candidates: int, rate: float, attempts: int) -> float:
        """What a segment costs on average: full rounds until one accepts, then one with what is left."""
        candidates = min(candidates, attempts)
        rounds, left = divmod(attempts, candidates)
        accepted = shown_chance(rate, candidates)
        cost = self._cost(candidates) * expected_attempts(accepted, rounds)
        return cost + self._cost(left) * (1 - shown_chance(accepted, rounds)) if left else cost

    def _cost(self, candidates: int) -> float:
        return 1 + self.row_cost * (candidates - 1)

    def _length(self, rate: float, max_tokens: int) -> int:
        if self.segment_tokens is None:
            return max_tokens
        shortest, longest = self.segment_tokens
        return round(shortest + rate * (longest - shortest))

    def _shift(self, rate: float) -> float:
        return 0.0 - self.slack * max(0.0, 1 - rate / self.target_rate)


_DRAWING = any_kind(
    "a number of candidates, or one of Fixed, Adaptive ('fixed', 'adaptive')", number=("fixed", "candidates")
)

Drawing: TypeAlias = Annotated[Fixed | Adaptive, Field(discriminator="kind"), _DRAWING]
"""How many candidates are drawn at once, the rule's name, or a number: always that many."""


@dataclass(frozen=True, slots=True)
class AttemptDraw:
    """How one attempt at a segment is drawn."""

    temperature: float
    """Sampling temperature."""
    policy: Redraw | WriteRefusal | None = None
    """What it is drawn by; None: by the language model."""
    opening: str | None = None
    """What the model goes on from, which is part of the candidate."""
    redrawn: bool = False
    """Whether it is drawn otherwise than the request asks for."""

    @property
    def source(self) -> OtherSource | None:
        """The policy that has it drawn from another prompt or model; None: from the answer's own."""
        return self.policy if isinstance(self.policy, SafetyHint | SaferModel) else None

    @property
    def override(self) -> float | None:
        """The temperature, where it is not the one that the session was opened with."""
        return self.temperature if self.redrawn else None

    @property
    def name(self) -> str:
        """How the trace calls it."""
        if isinstance(self.policy, TemperatureLadder):
            return f"temperature {self.temperature:g}"
        if self.policy is not None:
            return self.policy.kind.replace("_", " ")
        return RETRY if self.redrawn else MODEL


class AttemptDraws:
    """How the attempts at a segment are drawn.

    Without a temperature for retries, a proposal gives the same candidate every time at temperature 0, so it
    is asked once, and what comes after it follows at once: of 20 attempts without policies one is left.

    Args:
        policies: those of the settings.
        temperature: what the request asks for.
        most: attempts that the settings allow.
        retry: temperature of all attempts but the first; None where they are drawn like it.

    Attributes:
        count: attempts that may differ.
    """

    def __init__(
        self, policies: tuple[Escalation, ...], temperature: float, most: int, retry: float | None = None
    ) -> None:
        redraws = [policy for policy in policies if not isinstance(policy, Backtrack)]
        self._temperature = temperature
        self._retry = retry
        self._policies = sorted(redraws, key=lambda policy: policy.after)
        self._refusal: WriteRefusal | None = None
        self.count = most
        if temperature == 0 and retry is None:
            self._leave_out_alike(most)

    @classmethod
    def of_refusal(cls, refusal: WriteRefusal, temperature: float, retry: float | None) -> AttemptDraws:
        """The attempts at the beginning of a refusal.

        Args:
            refusal: the policy that has it written.
            temperature: what the request asks for.
            retry: as for :class:`AttemptDraws`.
        """
        draws = cls((), temperature, refusal.attempts, retry)
        greedy = temperature == 0 and retry is None
        draws.count = min(refusal.attempts, len(refusal.openings)) if greedy else refusal.attempts
        draws._refusal = refusal
        return draws

    def _leave_out_alike(self, most: int) -> None:
        begins, shifted = 1, []
        ends = [*(policy.after for policy in self._policies), most]
        for policy, end in zip(self._policies, ends[1:], strict=True):
            shifted.append(policy.changed(after=begins))
            begins += _unlike(policy, end - policy.after)
        self._policies, self.count = shifted, begins

    def of(self, attempt: int, *, anew: bool = False) -> AttemptDraw:
        """By the policy that began last, of those that have begun.

        Args:
            attempt: its number, from 0.
            anew: whether the place was written before, and what was written there withdrawn.
        """
        begun = [policy for policy in self._policies if policy.after <= attempt]
        policy = begun[-1] if begun else None
        retry = self._retry if attempt or anew else None
        temperature = self._temperature if retry is None else retry
        if isinstance(policy, TemperatureLadder):
            return AttemptDraw(policy.temperature(temperature, attempt), policy, redrawn=True)
        opening = self._opening(policy, attempt)
        return AttemptDraw(temperature, self._refusal or policy, opening, redrawn=retry is not None)

    def _opening(self, policy: Redraw | None, attempt: int) -> str | None:
        if self._refusal is not None:
            return self._refusal.opening(attempt)
        return policy.opening(attempt - policy.after) if isinstance(policy, RefusalOpening) else None

    def alike(self, first: int, most: int, *, anew: bool = False) -> int:
        """How many attempts from ``first`` on are drawn alike.

        Args:
            first: number of the first.
            most: how many are counted at most.
            anew: as for :meth:`of`.
        """
        draw = self.of(first, anew=anew)
        return next((n for n in range(1, most) if self.of(first + n, anew=anew) != draw), most)


def _unlike(policy: Redraw, attempts: int) -> int:
    """How many of a policy's attempts differ where each of its proposals gives one candidate.

    Args:
        policy: draws them.
        attempts: how many it has.
    """
    if isinstance(policy, TemperatureLadder):
        return attempts
    return min(attempts, len(policy.openings)) if isinstance(policy, RefusalOpening) else 1


def backtrack(policies: tuple[Escalation, ...]) -> Backtrack | None:
    """The policy to go back, if there is one."""
    return next((policy for policy in policies if isinstance(policy, Backtrack)), None)
