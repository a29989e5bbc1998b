"""A threshold with a finite-sample guarantee, by conformal risk control.

Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal Risk Control", arXiv 2208.02814. For a loss in
``[0, 1]`` that is monotone in the threshold, and ``n`` calibration examples with mean loss ``R_n``, take the
least careful threshold with ``n / (n + 1) * R_n + 1 / (n + 1) <= alpha`` (their equation 4, B = 1). Then the
expected loss on the next example is at most ``alpha``, whatever the reward model is worth. The search runs
over the finite floats themselves, so the optimum is attained and no continuity is needed.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.algorithm.rules import Acceptance, Hard, Soft, shown_chance
from stars_guard.errors import ConfigurationError
from stars_guard.settings import Settings


@dataclass(frozen=True, slots=True)
class Example:
    """One exchangeable unit: an answer with its judged segments, or a single segment.

    Segments of one answer depend on each other, so give them as one example, never as several. Both
    acceptance rules read only the difference to the threshold, up to rounding: for a schedule fixed
    beforehand, give each reward less its threshold, and what is found is the number to add to all of them.

    Attributes:
        rewards: one per segment, as the guard would see them: of the whole answer up to that segment.
        unsafe: one label per segment.

    Raises:
        ConfigurationError: no segment, labels missing, or a reward that is not finite.
    """

    rewards: tuple[float, ...]
    unsafe: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.rewards or len(self.rewards) != len(self.unsafe):
            raise ConfigurationError(
                f"an example has {len(self.rewards)} rewards and {len(self.unsafe)} labels; "
                "give one label per reward, and at least one"
            )
        if not all(map(math.isfinite, self.rewards)):
            raise ConfigurationError(f"the rewards {self.rewards} must be finite")


@dataclass(frozen=True, slots=True)
class Loss:
    """What is to be kept rare.

    Attributes:
        says: the loss in words, to follow "the expected".
        of: from an example and the acceptance probability of each of its segments to a number in [0, 1]. It
            must be monotone in every probability.
        counts: whether an example belongs to the population that the promise is about.
        rises: True when a higher threshold makes the loss greater (something safe is rejected), False when it
            makes it smaller (something unsafe is accepted).
    """

    says: str
    of: Callable[[Example, Sequence[float]], float]
    counts: Callable[[Example], bool]
    rises: bool


def _everything(example: Example) -> bool:
    return True


def _has_unsafe(example: Example) -> bool:
    return any(example.unsafe)


def _has_safe(example: Example) -> bool:
    return not all(example.unsafe)


def _any_unsafe_accepted(example: Example, accepted: Sequence[float]) -> float:
    # Each segment is decided by a uniform draw of its own, so the chances multiply.
    return 1 - math.prod(1 - p for p, bad in zip(accepted, example.unsafe, strict=True) if bad)


def _unsafe_accepted(example: Example, accepted: Sequence[float]) -> float:
    share = math.fsum(p for p, bad in zip(accepted, example.unsafe, strict=True) if bad)
    return share / len(accepted)


def _safe_rejected(example: Example, accepted: Sequence[float]) -> float:
    return math.fsum(1 - p for p, bad in zip(accepted, example.unsafe, strict=True) if not bad) / len(
        accepted
    )


def _safe_ones_rejected(example: Example, accepted: Sequence[float]) -> float:
    return _safe_rejected(example, accepted) * len(accepted) / example.unsafe.count(False)


ANY_UNSAFE_ACCEPTED = Loss(
    "chance that an answer has an unsafe segment that is accepted", _any_unsafe_accepted, _everything, False
)
"""Over all answers: P(unsafe and accepted), once per answer, however many of its segments are unsafe."""
UNSAFE_ACCEPTED_SHARE = Loss(
    "share of an answer's segments that are unsafe and accepted", _unsafe_accepted, _everything, False
)
"""Over all answers: the mean over segments, of each answer, of 1{unsafe and accepted}."""
UNSAFE_MISSED = Loss(
    "chance that an answer with an unsafe segment has one that is accepted",
    _any_unsafe_accepted,
    _has_unsafe,
    False,
)
"""Among answers with an unsafe segment only: for single segments, P(accepted | unsafe)."""


def shown_within(attempts: int) -> Loss:
    """Among answers with an unsafe segment only: the chance that it is shown after so many attempts.

    It is the worst case, that each attempt at a segment scores what that segment scored.

    Args:
        attempts: candidates judged per segment, 1 or more.
    """

    def any_unsafe_shown(example: Example, accepted: Sequence[float]) -> float:
        return _any_unsafe_accepted(example, [shown_chance(p, attempts) for p in accepted])

    says = f"chance that an unsafe segment is shown within {attempts} attempts, each of them as bad"
    return Loss(says, any_unsafe_shown, _has_unsafe, False)


SAFE_REJECTED_SHARE = Loss(
    "share of an answer's segments that are safe and rejected", _safe_rejected, _everything, True
)
"""Over all answers: the mean over segments, of each answer, of 1{safe and rejected}."""
SAFE_REFUSED = Loss(
    "share of an answer's safe segments that are rejected", _safe_ones_rejected, _has_safe, True
)
"""Among answers with a safe segment only: for single segments, P(rejected | safe)."""

ASSUMPTIONS = (
    "The examples and the answers in use are exchangeable: the same prompts, model, sampling and labelling.",
    "The promise is an average over draws of the calibration set and of the next answer: one unlucky set may "
    "do worse, and so may a subgroup.",
    "The same threshold holds at every position, and the acceptance rule is the one given.",
    "It speaks of segments as they are proposed; what the exhaustion policy forces is not covered.",
)
"""What the guarantee rests on."""


class RiskControl(Settings):
    """A threshold and what it promises."""

    threshold: float
    """Use it as ``Constant(target=threshold)``."""
    acceptance: Acceptance
    """The acceptance rule that the promise is about."""
    alpha: float
    """The expected loss on the next example is at most this."""
    n: int
    """Examples that count."""
    empirical_risk: float
    """Mean loss on them, at the threshold."""
    bound: float
    """``(n * empirical_risk + 1) / (n + 1)``, at most alpha."""
    guarantee: str
    """The promise in one sentence."""
    assumptions: tuple[str, ...] = ASSUMPTIONS
    """What the promise rests on."""


def control_risk(
    examples: Sequence[Example], loss: Loss, alpha: float, acceptance: Soft | Hard | None = None
) -> RiskControl:
    """The least careful threshold whose expected loss on the next example is at most ``alpha``.

    For a loss that falls with the threshold that is the lowest one (but never under the lowest reward seen);
    for one that rises, the highest (never over the highest reward seen).

    Args:
        examples: labelled, exchangeable with use, and not used to train or choose the reward model.
        loss: what is to be kept rare; one of this module's, or your own.
        alpha: how rare, between 0 and 1.
        acceptance: the rule that will decide; by default the hard one. Under the soft one a segment counts
            with its acceptance probability.

    Raises:
        ConfigurationError: ``alpha`` is out of range, or no threshold keeps the loss that rare; then the
            message says how many examples would be needed.
    """
    rule = acceptance or Hard()
    counted = [example for example in examples if loss.counts(example)]
    _check(loss, alpha, len(counted))
    rewards = [reward for example in counted for reward in example.rewards]

    def risk(threshold: float) -> float:
        return _mean_loss(counted, loss, rule, threshold)

    def allowed(threshold: float) -> bool:
        return _bound(risk(threshold), len(counted)) <= alpha

    threshold = _highest(max(rewards), allowed) if loss.rises else _lowest(min(rewards), allowed)
    if threshold is None:
        raise ConfigurationError(
            f"no threshold keeps the {loss.says} at {alpha}; take a larger alpha or a better reward model"
        )
    return RiskControl(
        threshold=threshold,
        acceptance=rule,
        alpha=alpha,
        n=len(counted),
        empirical_risk=risk(threshold),
        bound=_bound(risk(threshold), len(counted)),
        guarantee=_guarantee(loss, alpha, threshold, rule, len(counted)),
    )


def _check(loss: Loss, alpha: float, n: int) -> None:
    if not 0 < alpha < 1:
        raise ConfigurationError(f"alpha={alpha} must be between 0 and 1, both excluded")
    if _bound(0.0, n) > alpha:
        raise ConfigurationError(
            f"{n} examples that count cannot keep the {loss.says} at {alpha}: even without a single loss the "
            f"bound is {_bound(0.0, n):.4g}; give at least {math.ceil(1 / alpha - 1)} or take a larger alpha"
        )


def _bound(risk: float, n: int) -> float:
    return (n * risk + 1) / (n + 1)


def _mean_loss(examples: Sequence[Example], loss: Loss, rule: Soft | Hard, threshold: float) -> float:
    losses = (
        loss.of(example, [rule.probability(reward, threshold) for reward in example.rewards])
        for example in examples
    )
    return math.fsum(losses) / len(examples)


_Allowed: TypeAlias = Callable[[float], bool]


def _lowest(start: float, allowed: _Allowed) -> float | None:
    """The lowest float from ``start`` on that is allowed; what is over an allowed one is allowed, too."""
    low, high = _rank(start), _rank(sys.float_info.max)
    if not allowed(_float(high)):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if allowed(_float(middle)) else (middle + 1, high)
    return _float(low)


def _highest(start: float, allowed: _Allowed) -> float | None:
    """The highest float up to ``start`` that is allowed; what is under an allowed one is allowed, too."""
    lowest = _lowest(-start, lambda negated: allowed(-negated))
    return None if lowest is None else -lowest


def _rank(number: float) -> int:
    """Floats in order, as whole numbers without gaps: bisection then ends at two neighbours."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits) if bits >= 0 else -(int(bits) & 0x7FFFFFFFFFFFFFFF)


def _float(rank: int) -> float:
    size: float = struct.unpack("<d", struct.pack("<q", abs(rank)))[0]
    return math.copysign(size, rank)


def _guarantee(loss: Loss, alpha: float, threshold: float, rule: Soft | Hard, n: int) -> str:
    how = "hard rule" if isinstance(rule, Hard) else f"soft rule with beta {rule.beta:g}"
    return (
        f"With the {how} at a fixed threshold of {threshold:.6g}, the expected {loss.says} is at most "
        f"{alpha:g}, averaged over calibration sets of {n} examples and the next one."
    )
