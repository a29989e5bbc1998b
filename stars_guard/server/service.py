"""What the server does with a request, apart from HTTP: admit it, guard it, tell the observers, end it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.errors import ScoringError, StarsGuardError, failures_as
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.secrets import acceptance_key
from stars_guard.loop.events import Judged, Request
from stars_guard.models.base import BatchesItself
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.choices import Choices
from stars_guard.server.config import ServerConfig
from stars_guard.server.entry.admission import Admission
from stars_guard.server.entry.keys import Keys
from stars_guard.server.openai.faults import Fault, fault_for
from stars_guard.server.openai.translate import Translator
from stars_guard.server.telemetry.exchange import ChoiceEvent, Exchange, Observer, Outcome
from stars_guard.server.telemetry.telemetry import Telemetry
from stars_guard.server.telemetry.trace_store import TraceStore
from stars_guard.shadow import OUTAGE, shadowed_request
from stars_guard.types import Reward, StopReason

_OUT_OF_BUDGET = (StopReason.DEADLINE, StopReason.TOKEN_BUDGET, StopReason.REWARD_BUDGET)
_OUTCOMES = {
    StopReason.CANCELLED: Outcome.CANCELLED,
    StopReason.SCORING_ERROR: Outcome.SCORING_ERROR,
    StopReason.GENERATION_ERROR: Outcome.GENERATION_ERROR,
    **dict.fromkeys(_OUT_OF_BUDGET, Outcome.TIMED_OUT),
    StopReason.REFUSED: Outcome.REFUSED,
}
"""Outcome of a request by how its choices ended; the first in this order that occurs counts."""
_READY_SECONDS = 5.0
_PROBE = ScoreRequest(Prompt.of("Hello"), "Hello.", finished=True)


class Service:
    """Everything that requests share.

    Args:
        llm: the guard; it must not be used any more.
        config: what the operator set.
        observers: told of every request, besides those that the configuration asks for.
    """

    def __init__(self, llm: StarsGuardedLLM, config: ServerConfig, observers: Sequence[Observer]) -> None:
        limits, shadow = config.limits, config.shadow
        self.config = config
        self.telemetry = Telemetry.around(
            llm, config.observability, shadow, max_rows=limits.rows, observers=observers
        )
        self.llm = self.telemetry.llm
        self.observer = self.telemetry.observers
        self.keys = Keys(config.keys)
        self.admission = Admission(limits)
        self.telemetry.metrics.watch(
            self.admission, self.llm, running=limits.running, queued=limits.queued, shadow=shadow.enabled
        )
        self.traces = TraceStore(config.traces)
        self.translator = Translator(
            served_name=config.served_name,
            guard=self.llm.config,
            sampling=config.sampling,
            budget=config.most,
            sizes=limits,
            limits=limits.requests,
            traces=config.traces.enabled,
            acceptance_key=acceptance_key(config.acceptance_key_env)
            or llm.acceptance_key
            or AcceptanceKey.fresh(),
        )
        self._active: set[Choices] = set()
        # Where the engine has no threads of its own for scoring, one does: torch keeps workers for each.
        threads = limits.running if isinstance(self.llm.model, BatchesItself) else 1
        self._scoring = ThreadPoolExecutor(threads, thread_name_prefix="stars-guard-score")
        self._probing = ThreadPoolExecutor(1, thread_name_prefix="stars-guard-probe")
        self._probed = asyncio.Lock()
        self._ready: tuple[float, str | None] = (float("-inf"), None)

    @asynccontextmanager
    async def admitted(self, exchange: Exchange, choices: int) -> AsyncIterator[None]:
        """Hold room for so many choices, once there is.

        Raises:
            Fault: there is no room.
        """
        exchange.model = self.config.served_name
        async with self.admission.admitted(choices):
            exchange.admitted = time.monotonic()
            self.observer.admitted(exchange)
            yield

    @asynccontextmanager
    async def answering(
        self, exchange: Exchange, requests: Sequence[Request]
    ) -> AsyncIterator[AsyncIterator[tuple[int, ChoiceEvent]]]:
        """The events of a request's choices, once there is room for them.

        Raises:
            Fault: there is no room.
            StarsGuardError: the guard failed.
        """
        exchange.shadow, exchange.requests = self.config.shadow.enabled, list(requests)
        async with self.admitted(exchange, len(requests)):
            if exchange.shadow:
                requests = [shadowed_request(request) for request in requests]
            choices = Choices(self.llm, requests)
            self._active.add(choices)
            try:
                yield self._noted(exchange, choices)
            except StarsGuardError as error:
                self.traces.keep(exchange, error.trace)
                raise
            finally:
                self._active.discard(choices)
                await asyncio.shield(choices.aclose())

    async def _noted(self, exchange: Exchange, choices: Choices) -> AsyncIterator[tuple[int, ChoiceEvent]]:
        async for index, event in choices.events():
            if isinstance(event, Judged):
                self.observer.decided(exchange, index, event)
            if isinstance(event, GuardedResult):
                exchange.results.append(event)
            yield index, event
        exchange.outcome = outcome_of(exchange.results)
        self.traces.keep(exchange)

    async def cancel_all(self) -> None:
        """End every answer that is being written."""
        for choices in list(self._active):
            await choices.cancel()

    async def score(self, exchange: Exchange, request: ScoreRequest) -> Reward:
        """What the reward model says, once there is room.

        Raises:
            Fault: there is no room.
            ScoringError: the reward model failed, or was late.
        """
        async with self.admitted(exchange, 1):
            return await self._scored(request, self.config.limits.max_seconds, self._scoring)

    async def _scored(self, request: ScoreRequest, seconds: float, threads: ThreadPoolExecutor) -> Reward:
        request = replace(request, deadline=time.monotonic() + seconds)
        scoring = asyncio.get_running_loop().run_in_executor(threads, self.llm.loop.rounds.score, [request])
        with failures_as(ScoringError, f"scoring with {self.llm.reward.name}"):
            (reward,) = await asyncio.wait_for(scoring, seconds)
        if OUTAGE in reward.components:  # shadow mode lets answers pass, but must not say that it judged
            raise ScoringError(f"{self.llm.reward.name} cannot judge")
        return reward

    async def readiness(self) -> str | None:
        """Why no request should be sent here; None when the reward model was really asked, and scored."""
        if self.admission.draining:
            return "draining"
        async with self._probed:
            probed_at, problem = self._ready
            if time.monotonic() - probed_at > _READY_SECONDS:
                problem = await self._probe()
                self._ready = (time.monotonic(), problem)
        return problem

    async def _probe(self) -> str | None:
        try:
            await self._scored(_PROBE, _READY_SECONDS, self._probing)
        except ScoringError:
            return "the reward model does not score"
        return None

    async def aclose(self) -> None:
        """End every answer, free what the service holds, and write down what was recorded."""
        await self.cancel_all()
        for threads in (self._scoring, self._probing):
            threads.shutdown(wait=False, cancel_futures=True)
        await self.telemetry.aclose()


def outcome_of(results: Sequence[GuardedResult]) -> Outcome:
    """What a request counts as, by the results of its choices."""
    reasons = {result.stop_reason for result in results}
    return next((outcome for reason, outcome in _OUTCOMES.items() if reason in reasons), Outcome.ANSWERED)


def unanswered(results: Sequence[GuardedResult]) -> Fault | None:
    """Fault of a request that ended before any text was accepted; None of one with text."""
    if any(result.usage.kept_tokens for result in results):
        return None
    return fault_for(outcome_of(results))
