"""The rule: how high the bar is, and with what probability a candidate clears it. Pure functions of numbers.

A threshold schedule says which reward ``tau_k`` segment k must reach; an acceptance rule turns reward and
threshold into a probability, which is 0 under the floor; an exhaustion policy says what happens when every
attempt was rejected. Rewards are on the reward model's own scale throughout; higher is safer.

Sources: STARS (arXiv 2511.03827) for the accept/resample loop; the ramp and its ``alpha`` as published with
CARDS (arXiv 2406.16306); AdaSearch (arXiv 2510.23334) for spending effort early.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from stars_guard.algorithm.kinds import any_kind
from stars_guard.algorithm.openings import WriteRefusal
from stars_guard.errors import ConfigurationError
from stars_guard.settings import Computable, Settings


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the answer a candidate ends.

    Attributes:
        tokens: response tokens including the candidate (``t_k``).
        segment: number of the segment, from 1 (``k``).
        max_tokens: most response tokens that the request asks for; only a ramp with ``horizon="request"``
            reads it.
        base_reward: reward of the bare prompt, ``r(x, "")``; None unless the schedule asks for it.
        floor: reward under which nothing is shown, where a ramp starts at the lowest.
        final: whether the candidate completes the answer, and so is held against the target.
    """

    tokens: int
    segment: int
    max_tokens: int
    base_reward: float | None = None
    floor: float = -math.inf
    final: bool = False


class Schedule(Settings):
    """A threshold schedule: how ``tau`` depends on the position. Each has a ``target``, the reward ``r*``."""

    @property
    def needs_base_reward(self) -> bool:
        """Whether the bare prompt must be scored first."""
        return False

    def threshold(self, at: Position) -> float:
        """The reward ``tau_k`` that a candidate ending at ``at`` must reach."""
        raise NotImplementedError

    def at_end(self, target: float, threshold: float) -> float:
        """What a candidate that completes the answer must reach.

        Args:
            target: reward ``r*``.
            threshold: what is asked of others at its place.
        """
        return max(target, threshold)


class Ramp(Schedule):
    """Rises linearly to ``r*`` from ``tau_0 = max(floor, (1 - alpha) r(x, "") + alpha r*)``."""

    target: float
    """Target reward ``r*``."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Where the ramp starts: 0 at the bare prompt's reward, 1 at the target (then nothing ramps)."""

    @property
    def needs_base_reward(self) -> bool:
        """The bare prompt is scored unless ``alpha`` is 1."""
        return self.alpha < 1

    def threshold(self, at: Position) -> float:
        """``min(r*, tau_0 + progress (r* - tau_0))``."""
        # A prompt may be as bad as its author likes: what it scores must not pull the bar under the floor.
        start = max(at.floor, self._start(at))
        return min(self.target, start + self.progress(at) * (self.target - start))

    def progress(self, at: Position) -> float:
        """How far along the ramp a position is; 1 is the end."""
        raise NotImplementedError

    def _start(self, at: Position) -> float:
        if not self.needs_base_reward or at.floor >= self.target:
            return self.target
        if at.base_reward is None:
            raise ConfigurationError("this threshold schedule needs the reward of the bare prompt")
        return (1 - self.alpha) * at.base_reward + self.alpha * self.target


class LinearInTokens(Ramp):
    """The paper's ramp: progress is ``t_k / T``, in response tokens."""

    kind: Literal["linear_in_tokens"] = "linear_in_tokens"
    horizon: Annotated[int, Field(ge=1)] | Literal["request"] = 256
    """Response tokens after which the target is reached, ``T``. "request" takes ``max_tokens`` of the
    request, as published: then whoever asks for a longer answer gets a lower bar."""

    def progress(self, at: Position) -> float:
        """Response tokens including the candidate over the horizon, 1 beyond it."""
        horizon = at.max_tokens if self.horizon == "request" else self.horizon
        return min(1.0, at.tokens / horizon)


class LinearInSegments(Ramp):
    """The ramp in segments: progress is ``k / segments``, whatever their lengths."""

    kind: Literal["linear_in_segments"] = "linear_in_segments"
    segments: int = Field(ge=1)
    """Number of segments after which the target is reached."""

    def progress(self, at: Position) -> float:
        """Segment number over the length of the ramp, 1 beyond it."""
        return min(1.0, at.segment / self.segments)


class Constant(Schedule):
    """A threshold that is the same everywhere."""

    kind: Literal["constant"] = "constant"
    target: float
    """Target reward ``r*``."""

    def threshold(self, at: Position) -> float:
        """``r*``."""
        return self.target


class FrontLoaded(Schedule):
    """Strict early: falls from ``start`` to the target, ``tau = r* + (start - r*) exp(-t / decay_tokens)``.

    Retries are spent where they steer most; AdaSearch found decaying effort better than growing effort.
    """

    kind: Literal["front_loaded"] = "front_loaded"
    target: float
    """Target reward ``r*``, approached from above."""
    start: float
    """Threshold at the first token; at least the target."""
    decay_tokens: Computable = Field(default=64, gt=0)
    """Response tokens after which the excess over the target has fallen to 1/e."""

    @model_validator(mode="after")
    def _falls(self) -> FrontLoaded:
        if self.start < self.target:
            raise ValueError(f"start={self.start} is under target={self.target}; use a linear ramp to rise")
        return self

    def threshold(self, at: Position) -> float:
        """Exponential decay towards the target."""
        return self.target + (self.start - self.target) * math.exp(-at.tokens / self.decay_tokens)


class Table(Schedule):
    """A threshold per position, as calibration measures them.

    A candidate ending at ``t`` tokens uses the first entry whose position is at least ``t``; past the end,
    the last entry.
    """

    kind: Literal["table"] = "table"
    positions: tuple[int, ...] = Field(min_length=1)
    """Response tokens, rising strictly."""
    thresholds: tuple[float, ...]
    """One threshold per position."""

    @model_validator(mode="after")
    def _matches(self) -> Table:
        if len(self.thresholds) != len(self.positions):
            raise ValueError(f"{len(self.positions)} positions but {len(self.thresholds)} thresholds")
        if any(a >= b for a, b in zip(self.positions, self.positions[1:], strict=False)):
            raise ValueError(f"positions must rise strictly, got {self.positions}")
        return self

    @property
    def target(self) -> float:
        """The last entry."""
        return self.thresholds[-1]

    def at_end(self, target: float, threshold: float) -> float:
        """The entry for its place: a table has no one target, each entry was measured for itself."""
        return threshold

    def threshold(self, at: Position) -> float:
        """The entry for this position."""
        return self.thresholds[min(bisect_left(self.positions, at.tokens), len(self.thresholds) - 1)]


class Soft(Settings):
    """Accept with probability ``min(1, exp((r - tau) / beta))``.

    Uncapped, the accepted segments follow exactly ``pi(s) exp(min(r, tau) / beta) / Z``.
    """

    kind: Literal["soft"] = "soft"
    beta: Computable = Field(default=0.5, gt=0)
    """Acceptance temperature, in reward units: how much under the threshold is still often accepted."""

    def probability(self, reward: float, threshold: float) -> float:
        """Acceptance probability in [0, 1]."""
        return math.exp(min(0.0, (reward - threshold) / self.beta))


class Hard(Settings):
    """Accept exactly when the reward reaches the threshold; the limit of :class:`Soft` for beta to 0."""

    kind: Literal["hard"] = "hard"

    def probability(self, reward: float, threshold: float) -> float:
        """1 or 0."""
        return float(reward >= threshold)


def _in_json(floor: float) -> float | str:
    return floor if math.isfinite(floor) else "-inf"


def _bounded(floor: float) -> float:
    if math.isnan(floor) or floor == math.inf:
        raise ValueError("must be a number, or -inf for none")
    return floor


# JSON has no infinity, and as null "no floor" would be read back as "the default floor".
Floor: TypeAlias = Annotated[
    float,
    Field(allow_inf_nan=True),
    AfterValidator(_bounded),
    PlainSerializer(_in_json, when_used="json-unless-none"),
]
"""Reward under which nothing is shown; ``-inf`` is no floor."""


class Best(Settings):
    """Force the best candidate seen, unless even that is under a floor: then refuse."""

    kind: Literal["best"] = "best"
    floor: Floor | None = None
    """Lowest reward that may be forced, where that is over the guard's floor, or the guard has none set."""


class Last(Settings):
    """Force the last candidate drawn, the literal reading of the paper; one under the floor is refused."""

    kind: Literal["last"] = "last"


class Refuse(Settings):
    """End the answer with the refusal text."""

    kind: Literal["refuse"] = "refuse"


class Raise(Settings):
    """Raise :class:`stars_guard.errors.NoAcceptableSegment`."""

    kind: Literal["raise"] = "raise"


class Watch(Settings):
    """Show the last candidate drawn, even one under the floor: nothing is enforced, as in shadow mode."""

    kind: Literal["watch"] = "watch"


_THRESHOLD = any_kind(
    "a number, which holds everywhere, or one of Constant, LinearInTokens, LinearInSegments, FrontLoaded and "
    "Table",
    number=("constant", "target"),
)
_ACCEPTANCE = any_kind("'hard', 'soft', Hard() or Soft(beta=...)")
_EXHAUSTION = any_kind(
    "'best', 'refuse', 'write_refusal', 'raise', 'last', or Best(...), Refuse(), WriteRefusal(...), Raise(), "
    "Last()"
)

Threshold: TypeAlias = Annotated[
    LinearInTokens | LinearInSegments | Constant | FrontLoaded | Table,
    Field(discriminator="kind"),
    _THRESHOLD,
]
"""A schedule, or a number: the threshold that is the same everywhere."""
Acceptance: TypeAlias = Annotated[Soft | Hard, Field(discriminator="kind"), _ACCEPTANCE]
"""An acceptance rule, or its name: ``"hard"``, or ``"soft"`` with its default ``beta``."""
Exhaustion: TypeAlias = Annotated[
    Best | Last | Refuse | WriteRefusal | Raise | Watch, Field(discriminator="kind"), _EXHAUSTION
]
"""An exhaustion policy, or its name."""


def default_floor(target: float, acceptance: Soft | Hard) -> float:
    """The reward under which nothing is shown, where no floor is set.

    Five beta under the target, where the soft rule accepts fewer than 1 in 148; the target itself for the
    hard rule.

    Args:
        target: reward ``r*``.
        acceptance: the rule, whose ``beta`` the floor is a multiple of.
    """
    return target - 5 * acceptance.beta if isinstance(acceptance, Soft) else target


def expected_attempts(probability: float, most: int) -> float:
    """Mean of a geometric number of attempts that ends at ``most``; ``probability`` is in [0, 1]."""
    if probability in (0.0, 1.0):
        return 1.0 if probability else float(most)
    # (1 - (1 - p)^most) / p, also where p is too small for 1 - p.
    return -math.expm1(most * math.log1p(-probability)) / probability


def shown_chance(probability: float, attempts: int) -> float:
    """Chance that one of so many attempts is accepted, each with this probability: ``1 - (1 - p)^n``.

    Args:
        probability: of one attempt, in [0, 1].
        attempts: how many there are, 0 or more.
    """
    if probability >= 1:
        return float(attempts > 0)
    # Also where p is too small for 1 - p.
    return -math.expm1(attempts * math.log1p(-probability))
