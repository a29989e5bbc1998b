"""What the server does with a request, apart from HTTP: admit it, guard it, tell the observers, end it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.trace import Trace
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
from stars_guard.server.context import ModelContext
from stars_guard.server.entry.admission import Admission
from stars_guard.server.entry.keys import Keys
from stars_guard.server.entry.workers import SMALL, Workers
from stars_guard.server.openai.faults import Fault, fault_for
from stars_guard.server.openai.policy import RequestPolicy
from stars_guard.server.openai.translate import Asked, Translator
from stars_guard.server.readiness import Readiness
from stars_guard.server.telemetry.exchange import ChoiceEvent, Exchange, Observer, Outcome, totals
from stars_guard.server.telemetry.telemetry import Telemetry
from stars_guard.server.telemetry.trace_store import TraceStore, trace_size, written_traces
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

_SCORED_AT_ONCE = 32
"""Most texts of one request that the reward model is asked for at the same time."""


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
        self.context = ModelContext(self.llm.model)
        self.keys = Keys(config.keys)
        self.admission = Admission(limits, len(config.keys))
        self.workers = Workers()
        self._readiness = Readiness(
            self.llm, config.sampling, config.health, lambda: self.telemetry.reward.pending
        )
        self._watching: asyncio.Task[None] | None = None
        self.telemetry.metrics.watch(
            self.admission, self.llm, running=limits.running, queued=limits.queued, shadow=shadow.enabled
        )
        self.traces = TraceStore(config.traces)
        self._most_trace_bytes = min(config.traces.max_request_bytes, config.traces.max_bytes)
        self.translator = Translator(
            served_name=config.served_name,
            policy=RequestPolicy(limits.requests, self.llm.config, config.sampling, config.most),
            sizes=limits,
            traces=config.traces.enabled,
            acceptance_key=acceptance_key(config.acceptance_key_env)
            or llm.acceptance_key
            or AcceptanceKey.fresh(),
        )
        self._active: set[Choices] = set()
        # Where the engine has no threads of its own for scoring, one does: torch keeps workers for each.
        threads = limits.running if isinstance(self.llm.model, BatchesItself) else 1
        self._scoring = ThreadPoolExecutor(threads, thread_name_prefix="stars-guard-score")

    @asynccontextmanager
    async def admitted(self, exchange: Exchange, choices: int) -> AsyncIterator[None]:
        """Hold room for so many choices, once there is.

        Raises:
            Fault: there is no room.
        """
        exchange.model = self.config.served_name
        async with self.admission.admitted(choices, exchange.key):
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
                await self._keep_traces(exchange, error.trace)
                raise
            finally:
                self._active.discard(choices)
                await asyncio.shield(choices.aclose())

    async def _noted(self, exchange: Exchange, choices: Choices) -> AsyncIterator[tuple[int, ChoiceEvent]]:
        async for index, event in choices.events():
            if isinstance(event, Judged):
                self._readiness.noted(event)
                self.observer.decided(exchange, index, event)
            if isinstance(event, GuardedResult):
                exchange.results.append(event)
            yield index, event
        exchange.outcome = outcome_of(exchange.results)
        traces = [result.trace for result in exchange.results]
        exchange.counted = await self.workers.run(trace_size(traces), totals, exchange.results)
        await self._keep_traces(exchange)

    async def _keep_traces(self, exchange: Exchange, failed: Trace | None = None) -> None:
        """Keep the traces of a request that is over, with those of a choice that has no result."""
        if not self.config.traces.enabled:
            return
        traces = [result.trace for result in exchange.results] + ([failed] if failed else [])
        written = await self.workers.run(trace_size(traces), written_traces, traces, self._most_trace_bytes)
        self.traces.keep(exchange.id, exchange.key, written)

    async def cancel_all(self) -> None:
        """End every answer that is being written."""
        for choices in list(self._active):
            await choices.cancel()

    async def fitted(self, asked: Asked) -> Asked:
        """What the guard is asked, its answers no longer than fits the model beside the prompt.

        Raises:
            ContextLengthError: there is no room for any.
            PromptError: the prompt cannot be served.
        """
        if self.context.window is None:
            return asked
        # In a thread, since an engine may be asked how long the prompt is.
        prompt, wanted = asked.requests[0].prompt, asked.length.granted
        return asked.shortened(await self.workers.run(SMALL + 1, self.context.room, prompt, wanted))

    async def counted(self, exchange: Exchange, prompt: Prompt) -> int:
        """Length of a prompt in tokens, once there is room.

        Raises:
            Fault: there is no room, or the model does not say.
            PromptError: the prompt cannot be served.
        """
        async with self.admitted(exchange, 1):
            tokens = await self.workers.run(SMALL + 1, self.context.tokens, prompt)
        if tokens is None:
            raise Fault(404, "the engine alone knows how long a prompt is", code="tokens_not_counted")
        return tokens

    async def scored(self, exchange: Exchange, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """What the reward model says of each text, once there is room.

        Raises:
            Fault: there is no room.
            ScoringError: the reward model failed, or was late.
        """
        rewards: list[Reward] = []
        async with self.admitted(exchange, 1):
            until = time.monotonic() + self.config.limits.max_seconds
            for begin in range(0, len(requests), _SCORED_AT_ONCE):
                rewards += await self._scored(requests[begin : begin + _SCORED_AT_ONCE], until)
        return rewards

    async def _scored(self, requests: Sequence[ScoreRequest], until: float) -> list[Reward]:
        score = partial(
            self.llm.loop.rounds.score, [replace(request, deadline=until) for request in requests]
        )
        scoring = asyncio.get_running_loop().run_in_executor(self._scoring, score)
        with failures_as(ScoringError, f"scoring with {self.llm.reward.name}"):
            rewards = await asyncio.wait_for(scoring, until - time.monotonic())
        # Shadow mode lets answers pass, but must not say that it judged.
        if any(OUTAGE in reward.components for reward in rewards):
            raise ScoringError(f"{self.llm.reward.name} cannot judge")
        return rewards

    async def readiness(self) -> str | None:
        """Why no request should be sent here; None when a token was drawn and scored not long ago."""
        problem = "draining" if self.admission.draining else await self._readiness.problem()
        self.telemetry.metrics.readiness(problem)
        return problem

    def watch_readiness(self) -> None:
        """Find out again and again whether the server is ready, until it is closed."""
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.config.health.interval_seconds)
            await self.readiness()

    async def aclose(self) -> None:
        """End every answer, free what the service holds, and write down what was recorded."""
        await self.cancel_all()
        if self._watching is not None:
            self._watching.cancel()
        await self._readiness.aclose()
        self._scoring.shutdown(wait=False, cancel_futures=True)
        self.workers.close()
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
