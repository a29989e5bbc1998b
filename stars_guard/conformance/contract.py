"""What every guard relies on: one reward per request, in order, and the same one whatever is beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from stars_guard.conformance.result import Result, Status, failed_with, meant, passed, skipped
from stars_guard.conformance.subject import Subject, request
from stars_guard.errors import ScoringError, StarsGuardError
from stars_guard.rewards.base import checked

SAME = 0.01
"""Rewards this close, in spreads, count as equal: padding changes the last digits of a sum."""
ALMOST = 0.1
"""Up to here it may be the low precision of the weights."""


def same_or_not(
    subject: Subject, name: str, first: Sequence[float], second: Sequence[float], what: str, remedy: str
) -> Result:
    """Judge two scorings that should agree by how far they are apart, in spreads.

    Args:
        subject: the reward model, whose spread is the unit.
        name: name of the check.
        first: rewards of one scoring.
        second: rewards of the same texts in the other scoring.
        what: how the two scorings differ, for the message.
        remedy: what to do if they disagree.
    """
    if subject.noise > ALMOST:
        return skipped(name, "the same batch scores differently when asked twice")
    return _same(name, subject.off_by(first, second), what, remedy)


def _same(name: str, off: float, what: str, remedy: str) -> Result:
    status = Status.PASSED if off <= SAME else Status.WARNING if off <= ALMOST else Status.FAILED
    message = f"{what}: rewards differ by {off:.2g} spreads (up to {SAME} is the same, over {ALMOST} fails)"
    values = {"off_by_spreads": off}
    if status is Status.PASSED:
        return passed(name, message, **values)
    if status is Status.WARNING:
        remedy = f"If the weights are in half precision, this is their rounding; otherwise: {remedy}"
    return Result(name=name, status=status, message=message, remedy=remedy, values=values)


def answers(subject: Subject) -> Result:
    """Plain texts are scored: one finite number per request. All other checks need that."""
    try:
        low, high = min(map(min, subject.whole)), max(map(max, subject.whole))
    except StarsGuardError as error:
        remedy = "return a list with one Reward of a finite number for each request"
        return failed_with("answers", error, remedy, final=True)
    message = f"{2 * len(subject.pairs)} plain answers scored, from {low:.3g} to {high:.3g}"
    return passed("answers", message, min=low, max=high)


def order(subject: Subject) -> Result:
    """The rewards come in the order of the requests, however those are ordered."""
    requests = subject.mixed
    back = subject.values(requests[::-1])
    return same_or_not(
        subject,
        "order",
        subject.values(requests),
        back[::-1],
        f"{len(requests)} requests forth and back",
        "put the rewards back into the order of the requests, also after sorting by length",
    )


def empty_batch(subject: Subject) -> Result:
    """No requests, no rewards."""
    try:
        rewards = subject.rewards([])
    except ScoringError as error:
        return failed_with("empty_batch", error, "begin score() with: if not requests: return []")
    return passed("empty_batch", f"{len(rewards)} rewards for an empty batch")


def determinism(subject: Subject) -> Result:
    """A batch that is scored twice gets the same rewards."""
    return _same(
        "determinism", subject.noise, "the same batch twice", "turn sampling and dropout off (model.eval())"
    )


def batch_invariance(subject: Subject) -> Result:
    """A request alone gets the reward that it gets among others, longer and shorter."""
    requests = subject.mixed
    return same_or_not(
        subject,
        "batch_invariance",
        subject.values(requests),
        subject.alone(requests),
        f"{len(requests)} requests together and one by one",
        "mask the padding (attention_mask), normalise nothing over the batch, and see whether float32 "
        "weights agree: lower precision rounds each batch differently",
    )


def late_deadline(subject: Subject) -> Result:
    """A request whose deadline has passed is refused, or scored as it is in time: no number is made up."""
    prompt, text = subject.pairs[0].prompt, subject.pairs[0].safe
    try:
        rewards = subject.raw([request(prompt, text, deadline=time.monotonic() - 1)])
    except StarsGuardError as error:
        return passed("late_deadline", f"refused: {meant(error) or error}")
    (late,) = checked(subject.reward.name, rewards, 1)
    return same_or_not(
        subject,
        "late_deadline",
        [float(late.value)],
        subject.values([request(prompt, text)]),
        f"scored all the same, {late.value:.3g}, and again without a deadline",
        "raise an error when it is too late; a number of its own would be taken for a judgement",
    )
