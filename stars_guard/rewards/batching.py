"""One reward model for many threads: what waits at the same time is scored in one call, or in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pydantic import Field

from stars_guard.rewards.base import RewardModel, ScoreRequest, checked
from stars_guard.settings import Settings
from stars_guard.types import Reward


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
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        parallel = reward.parallel_calls if isinstance(reward, CallsInParallel) else 1
        self._idle = parallel
        self._slots = threading.BoundedSemaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="stars-guard-scoring")

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Blocks until these were scored, in whatever company.

        Raises:
            Exception: what the reward model raised over these requests; that of others stays theirs.
        """
        call = _Call(requests)
        with self._changed:
            self._waiting.append(call)
            if self._idle:
                self._idle -= 1
                self._threads.submit(self._serve)
            self._changed.notify_all()
        return call.answer.result()

    def release(self, run_id: str) -> None:
        """Tell the reward model, between two calls, that the answer ``run_id`` is over."""
        with self._slots:
            self._reward.release(run_id)

    def _serve(self) -> None:
        while batch := self._gathered():
            with self._slots:
                self._answer(batch)

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

    def _answer(self, batch: Sequence[_Call]) -> None:
        together = [request for call in batch for request in call.requests]
        try:
            rewards = iter(checked(self.name, self._reward.score(together), len(together)))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:  # each alone, so that only the culprit fails
                for call in batch:
                    self._answer([call])
            return
        for call in batch:
            call.answer.set_result([next(rewards) for _ in call.requests])
