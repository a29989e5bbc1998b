"""One reward model for many threads: what waits at the same time is scored in one call, or in turn."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from pydantic import Field

from stars_guard.errors import ScoringError
from stars_guard.forks import renew_in_children
from stars_guard.rewards.asking import Askers, askers, on_behalf_of
from stars_guard.rewards.base import OverdueReleases, RewardModel, ScoreRequest, checked, seconds_left
from stars_guard.rewards.halves import ByHalves
from stars_guard.settings import Settings
from stars_guard.types import Reward

log = logging.getLogger("stars_guard")


class MicroBatching(Settings):
    """How the scoring of requests that are served at the same time is put together."""

    max_batch: int = Field(default=64, ge=1)
    """Most texts in one call, unless a single request asks for more."""
    max_wait: float = Field(default=0.002, ge=0)
    """Most seconds that a text waits for company. It waits for none when it is alone."""


@runtime_checkable
class CallsInParallel(Protocol):
    """A reward model that gains from several calls at once; all others get one at a time."""

    @property
    def parallel_calls(self) -> int:
        """Most calls at the same time."""


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    requests: Sequence[ScoreRequest]
    answer: Future[list[Reward]] = field(default_factory=Future)
    askers: Askers = field(default_factory=askers)
    """Who waits for it."""


_Outcomes: TypeAlias = list[tuple[_Call, list[Reward] | BaseException]]


class MicroBatched:
    """A reward model for many threads: calls in order of arrival, bounded in size and in waiting.

    Only the threads of its own call the reward model, so that torch keeps one pool of workers.

    Args:
        reward: scores.
        bounds: of a call.
        company: how many callers there are; once all of them wait, nobody is waited for.
    """

    def __init__(self, reward: RewardModel, bounds: MicroBatching, company: Callable[[], int]) -> None:
        self.name = reward.name
        self._reward = reward
        self._bounds = bounds
        self._company = company
        self._overdue = OverdueReleases(reward)
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Nobody waits and no thread is at work, in a forked process."""
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        parallel = self._reward.parallel_calls if isinstance(self._reward, CallsInParallel) else 1
        self._idle = parallel
        self._slots = threading.BoundedSemaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="stars-guard-scoring")

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Blocks until these were scored, in whatever company.

        Raises:
            ScoringError: they were not by the last of their deadlines.
            Exception: what the reward model raised over these requests; that of others stays theirs.
        """
        call = _Call(requests)
        with self._changed:
            self._waiting.append(call)
            if self._idle:
                self._idle -= 1
                self._threads.submit(self._serve)
            self._changed.notify_all()
        left = seconds_left(requests)
        if not wait([call.answer], None if left < 0 else left).done:
            run_ids = ", ".join({request.run_id: None for request in requests})
            log.warning("run %s: %s gave no answer by the deadline", run_ids, self.name)
            raise _late(self.name)
        return call.answer.result()

    def release(self, run_id: str) -> None:
        """Tell the reward model that the answer ``run_id`` is over: now, or between the next two calls."""
        # A call that hangs must not hold up the end of answers that have no part in it.
        if not self._slots.acquire(blocking=False):
            self._overdue.add(run_id)
            return
        try:
            self._reward.release(run_id)
        finally:
            self._slots.release()

    def _serve(self) -> None:
        while batch := self._gathered():
            with self._slots:
                outcomes = self._outcomes(batch)
                self._overdue.catch_up()
            # Told once the slot is free, so that whoever ends its answer now is not found to be too early.
            for call, outcome in outcomes:
                if isinstance(outcome, BaseException):
                    call.answer.set_exception(outcome)
                else:
                    call.answer.set_result(outcome)

    def _gathered(self) -> list[_Call]:
        """The next call; nothing, and one thread less, when nobody waits."""
        with self._changed:
            self._changed.wait_for(self._is_full, self._bounds.max_wait if self._waiting else 0)
            batch: list[_Call] = []
            while self._waiting and (not batch or self._fits(batch)):
                batch.append(self._waiting.popleft())
            self._idle += not batch
            return batch

    def _is_full(self) -> bool:
        size = sum(len(call.requests) for call in self._waiting)
        return size >= self._bounds.max_batch or len(self._waiting) >= self._company()

    def _fits(self, batch: Sequence[_Call]) -> bool:
        size = sum(len(call.requests) for call in [*batch, self._waiting[0]])
        return size <= self._bounds.max_batch

    def _outcomes(self, batch: Sequence[_Call]) -> _Outcomes:
        late = [call for call in batch if seconds_left(call.requests) == 0]
        outcomes: _Outcomes = [(call, _late(self.name)) for call in late]
        in_time = [call for call in batch if call not in late]
        return outcomes + ByHalves(self._asked, _failed).results(in_time)

    def _asked(self, batch: Sequence[_Call]) -> _Outcomes:
        together = [request for call in batch for request in call.requests]
        with on_behalf_of(call.askers for call in batch):
            rewards = iter(checked(self.name, self._reward.score(together), len(together)))
        return [(call, [next(rewards) for _ in call.requests]) for call in batch]


def _late(name: str) -> ScoringError:
    return ScoringError(f"{name} gave no answer by the deadline; allow more time")


def _failed(call: _Call, error: BaseException) -> _Outcomes:
    """Raised in the thread that asked."""
    return [(call, error)]
