"""From options to the settings of a guard: how it judges, how it proposes."""

from __future__ import annotations

import math
from typing import Any

from stars_guard.algorithm.candidates import ROW_COSTS, Adaptive, Drawing, Fixed
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.escalation import Backtrack, Escalation, SafetyHint, TemperatureLadder
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.rules import (
    Acceptance,
    Best,
    Constant,
    Exhaustion,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Threshold,
)
from stars_guard.algorithm.segments import CLAUSE_MARKS, Boundary, EntropyCut, FixedLength, Segments
from stars_guard.cli.options import GuardOptions
from stars_guard.errors import ConfigurationError

_NONE = "none"
"""Value of ``--escalate`` that leaves out the policies of the settings."""
_POLICIES: dict[str, type[Best | Last | Refuse | WriteRefusal | Raise]] = {
    "best": Best,
    "last": Last,
    "refuse": Refuse,
    "write_refusal": WriteRefusal,
    "raise": Raise,
}


def guard_config(options: GuardOptions, max_tokens: int, base: GuardConfig) -> GuardConfig:
    """How to guard: settings with the given options in their place.

    Args:
        options: None leaves a setting as it is.
        max_tokens: longest answer, in tokens; a ramp in segments reaches the target there.
        base: the settings.

    Raises:
        ConfigurationError: an option has no effect beside the others.
    """
    if options.max_attempts is not None:
        base = base.with_attempts(options.max_attempts)
    acceptance, segments = _acceptance(options, base), _segments(options, base)
    escalation = _escalation(options, base)
    return base.changed(
        threshold=_threshold(options, base, acceptance, math.ceil(max_tokens / segments.max_tokens)),
        acceptance=acceptance,
        segments=segments,
        drawing=_drawing(options.candidates) if options.candidates else base.drawing,
        max_attempts=_attempts(options, base, escalation),
        exhaustion=_exhaustion(options, base),
        floor=base.stated_floor if options.floor is None else options.floor,
        escalation=escalation,
        keep_rejected_text=options.keep_rejected_text or base.keep_rejected_text,
    )


def _threshold(options: GuardOptions, base: GuardConfig, acceptance: Acceptance, segments: int) -> Threshold:
    if not stated(
        schedule=options.schedule,
        target=options.target,
        alpha=options.alpha,
        start=options.start,
        horizon=options.horizon,
    ):
        return base.threshold
    kind = options.schedule or base.threshold.kind
    if kind == "table":
        raise ConfigurationError("the settings have a table of thresholds; add --schedule to replace it")
    target = base.threshold.target if options.target is None else options.target
    if kind in ("constant", "front_loaded"):
        refuse_beside("--alpha", options.alpha, f"--schedule {kind}")
    if kind != "front_loaded":
        refuse_beside("--start", options.start, f"--schedule {kind}")
    if kind != "linear_in_tokens":
        refuse_beside("--horizon", options.horizon, f"--schedule {kind}")
    if kind == "constant":
        return Constant(target=target)
    if kind == "front_loaded":
        beta = acceptance.beta if isinstance(acceptance, Soft) else Soft().beta
        return FrontLoaded(target=target, start=target + 2 * beta if options.start is None else options.start)
    alpha = stated(alpha=getattr(base.threshold, "alpha", None) if options.alpha is None else options.alpha)
    if kind == "linear_in_segments":
        return LinearInSegments(target=target, segments=segments, **alpha)
    horizon = getattr(base.threshold, "horizon", None) if options.horizon is None else options.horizon
    return LinearInTokens(target=target, **alpha, **stated(horizon=horizon))


def _acceptance(options: GuardOptions, base: GuardConfig) -> Acceptance:
    if options.rule == "hard":
        refuse_beside("--beta", options.beta, "--rule hard")
        return Hard()
    if options.beta is not None:
        return Soft(beta=options.beta)
    return Soft() if options.rule == "soft" and isinstance(base.acceptance, Hard) else base.acceptance


def _segments(options: GuardOptions, base: GuardConfig) -> Segments:
    longest = stated(max_tokens=options.segment_tokens)
    if options.segments is None and not longest:
        return base.segments
    if options.segments in (None, "fixed"):
        return FixedLength(**longest)
    # Segments shorter than the usual minimum must have been meant.
    shortest = {"min_tokens": min(4, longest["max_tokens"])} if longest else {}
    if options.segments == "entropy":
        return EntropyCut(**longest, **shortest)
    marks = {"marks": CLAUSE_MARKS} if options.segments == "clause" else {}
    return Boundary(**longest, **shortest, **marks)


def _drawing(candidates: str) -> Drawing:
    if candidates == "adaptive":
        return Adaptive()
    if candidates in ROW_COSTS:
        return Adaptive(row_cost=ROW_COSTS[candidates])
    if not candidates.isdecimal():
        raise ConfigurationError(
            f"--candidates {candidates!r} must be a number or 'adaptive', 'time', 'tokens'"
        )
    return Fixed(candidates=int(candidates))


def _exhaustion(options: GuardOptions, base: GuardConfig) -> Exhaustion:
    return base.exhaustion if options.exhaustion is None else _POLICIES[options.exhaustion]()


def _escalation(options: GuardOptions, base: GuardConfig) -> tuple[Escalation, ...]:
    """The policies with their defaults; each begins where the one before it has begun to fail."""
    if options.escalate is None:
        return base.escalation
    if _NONE in options.escalate:
        if others := sorted({*options.escalate} - {_NONE}):
            raise ConfigurationError(f"--escalate {_NONE} and --escalate {others[0]} contradict; keep one")
        return ()
    redraws = [name for name in ("ladder", "hint", "opening") if name in options.escalate]
    after = {name: TemperatureLadder().after * place for place, name in enumerate(redraws, start=1)}
    policies: dict[str, Escalation] = {
        "ladder": TemperatureLadder(),
        "hint": SafetyHint(after=after.get("hint", 1)),
        "opening": RefusalOpening(after=after.get("opening", 1)),
        "backtrack": Backtrack(),
    }
    if unknown := set(options.escalate) - set(policies):
        known = ", ".join([*policies, _NONE])
        raise ConfigurationError(f"--escalate {min(unknown)} is not among {known}")
    return tuple(policies[name] for name in dict.fromkeys(options.escalate))


def _attempts(options: GuardOptions, base: GuardConfig, escalation: tuple[Escalation, ...]) -> int:
    """Most candidates per segment: room for the policies, unless the command line says how many there are."""
    if options.escalate is None or options.max_attempts is not None:
        return base.max_attempts
    starts = [policy.after for policy in escalation if not isinstance(policy, Backtrack)]
    return max([base.max_attempts, *(start + TemperatureLadder().after for start in starts)])


def refuse_beside(flag: str, value: object, beside: str) -> None:
    """Refuse an option that has no effect with another.

    Args:
        flag: the option's name on the command line.
        value: what was given for it; None is nothing.
        beside: what makes it idle.

    Raises:
        ConfigurationError: a value was given.
    """
    if value is not None:
        raise ConfigurationError(f"{flag} {value} has no effect with {beside}; leave one of them out")


def stated(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
