"""What is ordered of a language model for a request: the next round, or the one after it."""

from __future__ import annotations

from dataclasses import replace

from stars_guard.loop.request import RequestInFlight
from stars_guard.models.base import Order, Session
from stars_guard.types import Candidate, StopReason


def affordable(request: RequestInFlight, share: int) -> int | StopReason:
    """How many candidates the next round may have, at most ``share``, or the bound that forbids it."""
    run, budget, usage = request.run, request.budget, request.costs.usage
    count = min(run.plan.candidates, run.attempts_ahead, share)
    if budget.max_proposed_tokens is not None:
        left = budget.max_proposed_tokens - usage.proposed_tokens - request.costs.lost_tokens
        count = min(count, left // run.plan.max_tokens)
        if count < 1:
            return StopReason.TOKEN_BUDGET
    if budget.max_reward_calls is not None:
        count = min(count, budget.max_reward_calls - usage.reward_calls)
        if count < 1:
            return StopReason.REWARD_BUDGET
    return run.alike(count)


def next_order(request: RequestInFlight, session: Session, candidates: int) -> Order:
    """What to draw in the next round.

    Args:
        request: for which it is drawn.
        session: of the source that draws.
        candidates: how many to draw.
    """
    run = request.run
    longest = run.plan.max_tokens
    return Order(
        session=session,
        segment=run.segment.index,
        first_attempt=len(run.segment.attempts),
        candidates=candidates,
        cut=request.config.segments.model_copy(update={"max_tokens": longest}),
        ends_answer=len(run.token_ids) + longest >= request.sampling.max_tokens,
        alive=request.alive,
        temperature=run.draw.override,
    )


def order_after_opening(order: Order, session: Session, opening: Candidate) -> Order:
    """Order of the same round, drawn after an opening, which takes its part of the segment's room.

    Args:
        order: without the opening.
        session: with it accepted.
        opening: what it adds.
    """
    room = order.cut.max_tokens - len(opening.token_ids)
    return replace(order, session=session, cut=order.cut.model_copy(update={"max_tokens": room}))


def order_after(
    request: RequestInFlight, order: Order, candidate: Candidate, session: Session, share: int
) -> Order:
    """The first round of the next segment, if the first candidate of ``order`` is accepted.

    Args:
        request: for which it is drawn.
        order: the round whose candidates are being scored.
        candidate: the first of them.
        session: with it accepted.
        share: most candidates.
    """
    plan = request.run.plan_after(candidate, order.first_attempt)
    tokens = len(request.run.token_ids) + len(candidate.token_ids)
    return replace(
        order,
        session=session,
        segment=order.segment + 1,
        first_attempt=0,
        candidates=request.run.alike_after(min(plan.candidates, request.run.attempts_at_first, share)),
        cut=request.config.segments.model_copy(update={"max_tokens": plan.max_tokens}),
        ends_answer=tokens + plan.max_tokens >= request.sampling.max_tokens,
        temperature=None,  # only later attempts are drawn at another
    )
