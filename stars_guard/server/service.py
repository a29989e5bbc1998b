"""What the server does with a request, apart from HTTP: admit it, guard it, tell the observers, end it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

from stars_guard.errors import ScoringError, boundary
from stars_guard.job import Judged, Request
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import Reward, ScoreRequest, score_checked
from stars_guard.server.admission import Admission
from stars_guard.server.choices import Choices, Happened
from stars_guard.server.exchange import Exchange, Observer, Outcome
from stars_guard.server.faults import Fault, fault_for
from stars_guard.server.keys import Keys
from stars_guard.server.observed import Observed
from stars_guard.server.traces import TraceStore
from stars_guard.server.translate import Translator
from stars_guard.shadow import shadowed_request
from stars_guard.types import Prompt, StopReason

_OUT_OF_BUDGET = (StopReason.DEADLINE, StopReason.TOKEN_BUDGET, StopReason.REWARD_BUDGET)
_OUTCOMES = {
    StopReason.CANCELLED: Outcome.CANCELLED,
    StopReason.SCORING_ERROR: Outcome.SCORING_ERROR,
    StopReason.GENERATION_ERROR: Outcome.GENERATION_ERROR,
    **dict.fromkeys(_OUT_OF_BUDGET, Outcome.TIMED_OUT),
    StopReason.REFUSED: Outcome.REFUSED,
}
"""What a request counts as by how one of its choices ended; the first in this order that occurs."""
_READY_SECONDS = 5.0
_PROBE = ScoreRequest(Prompt.of("Hello"), "Hello.", finished=True)


class Service:
    """Everything that requests share.

    Args:
        observed: the guard, the operator's configuration, and who is told of requests.
    """

    def __init__(self, observed: Observed) -> None:
        self.llm = observed.llm
        self.config = config = observed.config
        self.observers: Sequence[Observer] = [observed.observers]
        self._reward = observed.reward
        self.keys = Keys(config.keys)
        self.admission = Admission(config.limits)
        self.traces = TraceStore(config.traces)
        self.translator = Translator(config, self.llm.config)
        self._active: set[Choices] = set()
        # One thread, so that torch keeps one pool of workers for it, and rewards need not be thread-safe.
        self._scoring = ThreadPoolExecutor(1, thread_name_prefix="stars-guard-score")
        self._ready: tuple[float, str | None] = (float("-inf"), None)

    @asynccontextmanager
    async def answering(
        self, exchange: Exchange, requests: Sequence[Request]
    ) -> AsyncIterator[AsyncIterator[tuple[int, Happened]]]:
        """The events of a request's choices, once there is room for them.

        Raises:
            Fault: there is no room.
            StarsGuardError: the guard failed.
        """
        exchange.shadow, exchange.requests = self.config.shadow.enabled, list(requests)
        if exchange.shadow:
            requests = [shadowed_request(request) for request in requests]
        async with self.admission.admitted(len(requests)):
            exchange.admitted = time.monotonic()
            for observer in self.observers:
                observer.admitted(exchange)
            choices = Choices(self.llm, requests)
            self._active.add(choices)
            try:
                yield self._noted(exchange, choices)
            finally:
                self._active.discard(choices)
                await asyncio.shield(choices.aclose())

    async def _noted(self, exchange: Exchange, choices: Choices) -> AsyncIterator[tuple[int, Happened]]:
        async for index, event in choices.events():
            if isinstance(event, Judged):
                for observer in self.observers:
                    observer.decided(exchange, index, event)
            if isinstance(event, GuardedResult):
                exchange.results.append(event)
            yield index, event
        exchange.outcome = outcome_of(exchange.results)
        self.traces.keep(exchange)

    async def cancel_all(self) -> None:
        """End every answer that is being written."""
        for choices in list(self._active):
            await choices.cancel()

    async def score(self, request: ScoreRequest) -> Reward:
        """What the reward model says.

        Raises:
            ScoringError: it failed, or was late.
        """
        loop = asyncio.get_running_loop()
        with boundary(ScoringError, f"scoring with {self._reward.name}"):
            async with asyncio.timeout(self.config.limits.max_seconds):
                (reward,) = await loop.run_in_executor(self._scoring, score_checked, self._reward, [request])
        return reward

    async def readiness(self) -> str | None:
        """Why no request should be sent here; None when all is well: the reward model was really asked."""
        if self.admission.draining:
            return "draining"
        asked, problem = self._ready
        if time.monotonic() - asked > _READY_SECONDS:
            problem = await self._scores()
            self._ready = (time.monotonic(), problem)
        return problem

    async def _scores(self) -> str | None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.score(_PROBE)
        except (ScoringError, TimeoutError):
            return "the reward model does not score"
        return None

    def close(self) -> None:
        """Free what the service itself holds."""
        self._scoring.shutdown(wait=False, cancel_futures=True)


def outcome_of(results: Sequence[GuardedResult]) -> Outcome:
    """What a request counts as."""
    reasons = {result.stop_reason for result in results}
    return next((outcome for reason, outcome in _OUTCOMES.items() if reason in reasons), Outcome.ANSWERED)


def unanswered(results: Sequence[GuardedResult]) -> Fault | None:
    """The failure that a request is, if it ended before any text was accepted."""
    if any(result.usage.kept_tokens for result in results):
        return None
    return fault_for(outcome_of(results))


async def until_gone(receive: Any) -> None:
    """Returns when the client has gone away."""
    with suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
