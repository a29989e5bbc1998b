"""A scripted engine that decodes in steps of known length, and what is known beforehand of its answers.

Every candidate says which prompt, segment and attempt it is, and when it was drawn; the reward accepts an
attempt by a draw that depends on those alone. So the right answer to a prompt is known: no segment can be
lost, doubled or mixed up unseen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

from stars_guard import Constant, FixedLength, GuardConfig, Hard, SamplingParams
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.testing import FakeSession, fake_session
from stars_guard.types import Candidate, Finish, Reward

MAX_ATTEMPTS = 10
StepSeconds: TypeAlias = Callable[[int], float]
"""Seconds that a step of the whole batch takes, by sequences in it."""


@dataclass(frozen=True)
class Script:
    """What the answers are like: so many segments, of so many tokens, accepted with a chance each."""

    segments: int = 8
    segment_tokens: int = 16
    acceptance: float = 0.6
    candidates: int = 1

    @property
    def config(self) -> GuardConfig:
        """A guard for them."""
        return GuardConfig(
            threshold=Constant(target=1.0),
            acceptance=Hard(),
            segments=FixedLength(max_tokens=self.segment_tokens),
            drawing=Fixed(candidates=self.candidates),
            max_attempts=MAX_ATTEMPTS,
        )

    @property
    def sampling(self) -> SamplingParams:
        """Room for the whole answer."""
        return SamplingParams(max_tokens=self.segments * self.segment_tokens)

    def accepts(self, prompt: str, segment: int, attempt: int) -> bool:
        """Whether the reward accepts an attempt; the last is always good, so that nothing is forced.

        Args:
            prompt: its text.
            segment: number, from 0.
            attempt: number, from 0.
        """
        seed = int.from_bytes(blake2b(prompt.encode(), digest_size=7).digest(), "little")
        return attempt == MAX_ATTEMPTS - 1 or uniform(seed, segment, attempt, 0) < self.acceptance

    def attempts(self, prompt: str) -> list[int]:
        """Candidates that each segment takes."""
        return [
            next(attempt for attempt in range(MAX_ATTEMPTS) if self.accepts(prompt, segment, attempt)) + 1
            for segment in range(self.segments)
        ]

    def expected(self, prompt: str) -> list[str]:
        """The segments of the answer, without their times."""
        return [f"{prompt}.{segment}.{count - 1}" for segment, count in enumerate(self.attempts(prompt))]


@dataclass(slots=True, eq=False)
class _Draw:
    order: Order
    left: int
    done: Future[None] = field(default_factory=Future)


class SteppedModel:
    """Language model and engine in one: a thread that steps, as long as there is something to decode.

    Args:
        script: what it says.
        step: seconds of a step; None decodes at once.
        max_batch: sequences that it takes at once.
    """

    name = "stepped"

    def __init__(self, script: Script, step: StepSeconds | None, max_batch: int = 256) -> None:
        self._script, self._step, self._max_batch = script, step, max_batch
        self._draws: list[_Draw] = []
        self._changed = threading.Condition()
        if step is not None:
            threading.Thread(target=self._work, args=(step,), daemon=True, name="stepped").start()

    @property
    def has_room(self) -> bool:
        """Whether another round would fit."""
        with self._changed:
            return self._sequences() + self._script.candidates <= self._max_batch

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        """Open a session."""
        return FakeSession(prompt, sampling)

    def ahead(self, session: Session, candidate: Candidate) -> FakeSession:
        """A copy that has accepted the candidate."""
        branch = copy(fake_session(session))
        branch.accept(candidate)
        return branch

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Wait until they are decoded."""
        draws = [_Draw(order, self._script.segment_tokens) for order in orders]
        if self._step is not None:
            with self._changed:
                self._draws.extend(draws)
                self._changed.notify()
            for draw in draws:
                draw.done.result()
        return [self._proposal(draw) for draw in draws]

    def _sequences(self) -> int:
        return sum(draw.order.candidates for draw in self._draws)

    def _work(self, step: StepSeconds) -> None:
        due = time.monotonic()
        while True:
            with self._changed:
                if not self._draws:
                    self._changed.wait_for(lambda: self._draws)
                    due = time.monotonic()
                decoding = list(self._draws)
                due += step(self._sequences())
            time.sleep(max(0.0, due - time.monotonic()))
            with self._changed:
                for draw in decoding:
                    draw.left -= 1
                over = [draw for draw in decoding if draw.left == 0 or not draw.order.alive()]
                self._draws = [draw for draw in self._draws if draw not in over]
            for draw in over:
                draw.done.set_result(None)

    def _proposal(self, draw: _Draw) -> Proposal:
        order, tokens = draw.order, self._script.segment_tokens - draw.left
        if self._step is not None and draw.left:
            return Proposal((), tokens * order.candidates)
        attempts = range(order.first_attempt, order.first_attempt + order.candidates)
        drawn = tuple(self._candidate(order, attempt) for attempt in attempts)
        return Proposal(drawn, self._script.segment_tokens * order.candidates)

    def _candidate(self, order: Order, attempt: int) -> Candidate:
        session = fake_session(order.session)
        text = f"{session.prompt.as_text()}.{order.segment}.{attempt}@{time.monotonic():.6f};"
        finish = Finish.EOS if order.segment == self._script.segments - 1 else None
        return Candidate((0,) * self._script.segment_tokens, session.text + text, finish)


class SteppedReward:
    """Accepts what the script says, after a while.

    Args:
        script: says what.
        fixed: seconds a call.
        per_candidate: seconds more for each text of it.
    """

    name = "stepped"

    def __init__(self, script: Script, fixed: float = 0.0, per_candidate: float = 0.0) -> None:
        self._script, self._fixed, self._per_candidate = script, fixed, per_candidate

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Read the last segment of each."""
        if seconds := self._fixed + self._per_candidate * len(requests):
            time.sleep(seconds)
        return [Reward(1.0 if self._accepts(request) else -1.0) for request in requests]

    def _accepts(self, request: ScoreRequest) -> bool:
        prompt, segment, attempt = request.response.rsplit(";", 2)[-2].partition("@")[0].rsplit(".", 2)
        return self._script.accepts(prompt, int(segment), int(attempt))

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


def read_answer(text: str) -> tuple[list[str], list[float]]:
    """The segments of an answer, and when each was drawn (``time.monotonic()``)."""
    parts = [part.rpartition("@") for part in text.split(";")[:-1]]
    return [name for name, _, _ in parts], [float(drawn) for _, _, drawn in parts]
