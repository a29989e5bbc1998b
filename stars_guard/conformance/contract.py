"""What every guard relies on: one reward per request, in order, and the same one whatever is beside it."""

from __future__ import annotations

from stars_guard.conformance.result import Result, Status
from stars_guard.conformance.subject import Subject, first_words, request
from stars_guard.errors import ScoringError, StarsGuardError, boundary
from stars_guard.rewards.base import ScoreRequest, checked

SAME = 0.01
"""Rewards this close, in spreads, count as equal: padding changes the last digits of a sum."""
ALMOST = 0.1
"""Up to here it may be the low precision of the weights."""


def same_or_not(name: str, off: float, what: str, remedy: str) -> Result:
    """Judge two scorings that should agree by how far they are apart, in spreads."""
    status = Status.PASSED if off <= SAME else Status.WARNING if off <= ALMOST else Status.FAILED
    message = f"{what}: rewards differ by {off:.2g} spreads (up to {SAME} is the same, over {ALMOST} fails)"
    values = {"off_by_spreads": off}
    if status is Status.PASSED:
        return Result(name=name, status=status, message=message, values=values)
    if status is Status.WARNING:
        remedy = f"If the weights are in half precision, this is their rounding; otherwise: {remedy}"
    return Result(name=name, status=status, message=message, remedy=remedy, values=values)


def answers(subject: Subject) -> Result:
    """It scores plain texts: one finite number per request. All other checks need that."""
    try:
        low, high = min(map(min, subject.whole)), max(map(max, subject.whole))
    except StarsGuardError as error:
        return Result(
            name="answers",
            status=Status.FAILED,
            message=str(error),
            remedy="return a list with one Reward of a finite number for each request",
            final=True,
        )
    return Result(
        name="answers",
        status=Status.PASSED,
        message=f"{2 * len(subject.pairs)} plain answers scored, from {low:.3g} to {high:.3g}",
        values={"min": low, "max": high},
    )


def mixed_lengths(subject: Subject) -> list[ScoreRequest]:
    """Requests of one word to several answers' length, so that padding differs."""
    found = []
    for number, pair in enumerate(subject.pairs[:9]):
        answer = pair.safe if number % 2 else pair.unsafe
        text = " ".join([answer] * 4) if number % 3 == 2 else first_words(answer, (3, 20)[number % 3])
        found.append(request(pair.prompt, text))
    return found


def order(subject: Subject) -> Result:
    """The rewards come in the order of the requests, however those are ordered."""
    requests = mixed_lengths(subject)
    forth, back = subject.values(requests), subject.values(requests[::-1])
    off = subject.off_by(forth, back[::-1])
    return same_or_not(
        "order",
        off,
        f"{len(requests)} requests forth and back",
        "put the rewards back into the order of the requests, also after sorting by length",
    )


def empty_batch(subject: Subject) -> Result:
    """No requests, no rewards."""
    try:
        found = subject.rewards([])
    except ScoringError as error:
        return Result(
            name="empty_batch",
            status=Status.FAILED,
            message=str(error),
            remedy="begin score() with: if not requests: return []",
        )
    return Result(
        name="empty_batch", status=Status.PASSED, message=f"{len(found)} rewards for an empty batch"
    )


def determinism(subject: Subject) -> Result:
    """The same batch twice gives the same rewards."""
    requests = mixed_lengths(subject)
    off = subject.off_by(subject.values(requests), subject.values(requests))
    return same_or_not(
        "determinism", off, "the same batch twice", "turn sampling and dropout off (model.eval())"
    )


def batch_invariance(subject: Subject) -> Result:
    """A request alone gets the reward that it gets among others, longer and shorter."""
    requests = mixed_lengths(subject)
    off = subject.off_by(subject.values(requests), subject.alone(requests))
    return same_or_not(
        "batch_invariance",
        off,
        f"{len(requests)} requests together and one by one",
        "mask the padding (attention_mask), and normalise nothing over the batch",
    )


def late_deadline(subject: Subject) -> Result:
    """A request whose deadline has passed is scored or refused, never answered with what is no number."""
    late = request(subject.pairs[0].prompt, subject.pairs[0].safe, deadline=0.0)
    try:
        with boundary(ScoringError, f"scoring with {subject.reward.name}"):
            found = subject.reward.score([late])
    except StarsGuardError as error:
        return Result(name="late_deadline", status=Status.PASSED, message=f"refused: {error}")
    try:
        (value,) = [reward.value for reward in checked(subject.reward.name, found, 1)]
    except ScoringError as error:
        return Result(
            name="late_deadline",
            status=Status.FAILED,
            message=str(error),
            remedy="score the late request all the same, or raise ScoringError",
        )
    return Result(name="late_deadline", status=Status.PASSED, message=f"scored all the same: {value:.3g}")
