"""A language model and a reward that keep their contracts until a plan has them break one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stars_guard import GenerationError, Prompt, PromptError, SamplingParams, ScoringError
from stars_guard.models.base import Order, Proposal
from stars_guard.rewards.base import ScoreRequest
from stars_guard.testing import FakeSession, fake_session
from stars_guard.text.dialects import HERMES
from stars_guard.types import Candidate, Finish, Reward
from tests.faults.ledger import CALL_OPENING, Ledger
from tests.faults.marks import BAD, GOOD, MARK, new_mark
from tests.faults.plan import NOBODY, PROBE, StreamPlan, number_of

STALL = 0.003
"""Seconds; longer than most deadlines and readers of these plans wait."""
REWARDS = {GOOD: 1.0, BAD: -1000.0}
"""Reward by quality; in between for a poor one. No rule accepts a bad one, whatever the draw."""
_AROUND = {
    "answer": ("", ""),
    "thought": ("<think>", "</think>"),
    "opened thought": ("<think>", ""),
    "closed thought": ("", "</think>"),
    "call": (CALL_OPENING, '"}}</tool_call>'),
    "opened call": (CALL_OPENING, ""),
    "closed call": ("", '"}}</tool_call>'),
}


class Abort(BaseException):
    """What no guard foresees: not even an ``Exception``."""


def strike(how: str | None) -> None:
    """Raise, or stall, if the fault is of that sort."""
    if how == "stalls":
        threading.Event().wait(STALL)
    errors = {
        "raises": OSError("down"),
        "guard error": ScoringError("down"),
        "prompt error": PromptError("too long"),
        "cancelled": asyncio.CancelledError(),
        "abort": Abort(),
    }
    if how in errors:
        raise errors[how]


class FaultySession(FakeSession):
    """A session that counts itself until it is closed."""

    def __init__(
        self, model: FaultyModel, plan: StreamPlan, prompt: Prompt, sampling: SamplingParams
    ) -> None:
        super().__init__(prompt, sampling, HERMES)
        self.model, self.plan = model, plan

    def accept(self, candidate: Candidate) -> None:
        strike(self.plan.strikes("accept"))
        super().accept(candidate)

    def hold(self, candidate: Candidate) -> None:
        strike(self.plan.strikes("hold"))

    def close(self) -> None:
        if not self.closed:
            self.model.open.discard(id(self))
        super().close()
        strike(self.plan.strikes("close"))


class FaultyModel:
    """Writes marks, in the layout of each stream's plan.

    Args:
        plans: by number of the stream.
    """

    name = "faulty"

    def __init__(self, plans: Mapping[int, StreamPlan]) -> None:
        self._plans = plans
        self.open: set[int] = set()
        """The sessions that are open."""

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FaultySession:
        plan = self._plans.get(number_of(prompt), PROBE)
        strike(plan.strikes("start"))
        session = FaultySession(self, plan, prompt, sampling)
        self.open.add(id(session))
        return session

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        proposals = []
        for order in orders:
            plan = self._plans.get(number_of(fake_session(order.session).prompt), PROBE)
            how = plan.strikes("propose")
            if how == "no proposals":
                return []
            strike(how if how != "guard error" else None)
            if how == "guard error":
                raise GenerationError("down")
            proposals.append(_proposal(order, plan, missing=how == "too few"))
        return proposals


def _proposal(order: Order, plan: StreamPlan, *, missing: bool) -> Proposal:
    if not order.alive():
        return Proposal((), 0)
    attempts = range(order.first_attempt, order.first_attempt + order.candidates - missing)
    drawn = tuple(_candidate(order, plan, attempt) for attempt in attempts)
    return Proposal(drawn, sum(len(candidate.token_ids) for candidate in drawn))


def _candidate(order: Order, plan: StreamPlan, attempt: int) -> Candidate:
    """A candidate whose token ids say how many segments stand before it."""
    session = fake_session(order.session)
    place = session.token_ids[-1] + 1 if session.token_ids else 0
    tokens = min(1 + (plan.key + order.segment) % 3, order.cut.max_tokens)
    before, after = _AROUND[plan.layout[place]]
    text = session.text + before + new_mark(plan.quality(order.segment, attempt)) * tokens + after
    ended = place == len(plan.layout) - 1
    finish = Finish.EOS if ended else None
    if finish is None and order.ends_answer and tokens >= order.cut.max_tokens:
        finish = Finish.LENGTH
    stops = [text.index(stop) for stop in session.sampling.stop if stop in text]
    if stops:
        text, finish = text[: min(stops)], Finish.STOP
    return Candidate((place,) * tokens, text, finish)


class FaultyReward:
    """Judges by the last mark, and writes down what it passed once its answer is complete.

    Args:
        plans: by number of the stream.
        ledger: gets what was passed.
    """

    name = "faulty"

    def __init__(self, plans: Mapping[int, StreamPlan], ledger: Ledger) -> None:
        self._plans, self._ledger = plans, ledger
        self._numbers: dict[str, int] = {}
        self.kept: set[str] = set()
        """The runs of which something is kept."""
        self.released: Counter[str] = Counter()

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Any]:
        numbers = [number_of(request.prompt) for request in requests]
        for request, number in zip(requests, numbers, strict=True):
            if request.run_id:  # none where a client asks for a score alone
                self._numbers[request.run_id] = number
                self.kept.add(request.run_id)
        for number in numbers:
            how = self._plans.get(number, PROBE).strikes("score")
            strike(how)
            if how in _WRONG:
                return _WRONG[how](len(requests))
        rewards = [Reward(_value(request.response)) for request in requests]
        for request, number in zip(requests, numbers, strict=True):
            self._ledger.passed(number, request.channel, request.response)
        return rewards

    def release(self, run_id: str) -> None:
        self.kept.discard(run_id)
        self.released[run_id] += 1
        number = self._numbers.pop(run_id, NOBODY)
        strike(self._plans.get(number, PROBE).strikes("release"))


_WRONG: dict[str | None, Callable[[int], list[Any]]] = {
    "too few": lambda count: [Reward(1.0)] * (count - 1),
    "too many": lambda count: [Reward(1.0)] * (count + 1),
    "nan": lambda count: [Reward(math.nan)] * count,
    "infinite": lambda count: [Reward(math.inf)] * count,
    "no number": lambda count: [Reward("1.0")] * count,  # type: ignore[arg-type]
    "no reward": lambda count: [1.0] * count,
}
"""What a broken reward returns, for so many texts."""


def _value(response: str) -> float:
    marks = MARK.findall(response)
    return REWARDS.get(marks[-1][1], 0.0) if marks else 1.0
