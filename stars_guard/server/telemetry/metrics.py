"""Prometheus metrics of one server, in a registry of its own.

Labels hold what is named here or by the operator: never text of users, and never unboundedly many values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from stars_guard.algorithm.escalation import MODEL
from stars_guard.algorithm.trace import Attempt, Verdict
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged
from stars_guard.result import GuardedResult, Usage
from stars_guard.server.telemetry.exchange import Exchange, Outcome
from stars_guard.server.telemetry.instruments import Instruments, position
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.shadow import unjudged
from stars_guard.version import __version__

ANSWERING = ("chat.completions", "completions")
"""The endpoints that are guarded."""
_ENDPOINTS = (*ANSWERING, "guard.score", "models", "traces")


class Load(Protocol):
    """What runs and what waits."""

    running: int
    """Choices being served."""

    @property
    def queued(self) -> int:
        """Requests that wait."""
        ...


@dataclass(slots=True, eq=False)
class _Live:
    """A request that is being served: what was judged of it."""

    judged: int = 0
    """Tokens of judged candidates."""
    kept: int = 0
    """Tokens that became part of answers."""
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    """Of the segment that is being decided, by choice."""

    def took(self, choice: int, judged: Judged) -> Attempt | None:
        """Note a decision; the attempt that is now part of the answer, if one is."""
        attempts = self.attempts.setdefault(choice, [])
        attempts.append(judged.attempt)
        self.judged += judged.attempt.tokens
        if judged.verdict is Verdict.OPEN:
            return None
        del self.attempts[choice]
        if judged.chosen is None:
            return None
        chosen = attempts[judged.chosen]
        self.kept += chosen.tokens
        return chosen


class Metrics:
    """An observer that counts, and the registry that it counts in. Several can live in one process.

    Args:
        settings: which buckets rewards are counted in.
    """

    def __init__(self, settings: ObservabilitySettings | None = None) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._told = Instruments(self.registry, (settings or ObservabilitySettings()).reward_buckets)
        self._live: dict[str, _Live] = {}
        for endpoint, outcome in product(ANSWERING, Outcome):
            self._told.requests.labels(endpoint, outcome.value)
        for verdict in set(Verdict) - {Verdict.OPEN, Verdict.WITHDRAWN}:
            self._told.segments.labels(verdict.value)
        for result in ("scored", "failed"):
            self._told.call_seconds.labels(result)

    def watch(self, load: Load, llm: StarsGuardedLLM, *, running: int, queued: int, shadow: bool) -> None:
        """What the gauges show.

        Args:
            load: asked whenever the metrics are read.
            llm: names and guarantee level of what is served.
            running: most choices at the same time.
            queued: most requests that wait.
            shadow: whether the guard only watches.
        """
        self._told.queue.set_function(lambda: load.queued)
        self._told.running.set_function(lambda: load.running)
        self._told.queue_limit.set(queued)
        self._told.running_limit.set(running)
        guarantee = llm.loop.rounds.proposers.guarantee.value
        mode = "shadow" if shadow else "guard"
        self._told.build.labels(__version__, llm.model.name, llm.reward.name, guarantee, mode).set(1)

    def readiness(self, problem: str | None) -> None:
        """Whether the server is ready: None is."""
        self._told.ready.set(problem is None)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Everything, and its content type, in the form that the scraper's header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    async def response(self, request: Request) -> Response:
        """``/metrics``."""
        body, content_type = self.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def scored(self, seconds: float, texts: int, result: str) -> None:
        """A call of the reward model is over; ``result`` is ``scored`` or ``failed``."""
        self._told.call_seconds.labels(result).observe(seconds)
        self._told.call_texts.observe(texts)

    def began(self, exchange: Exchange) -> None:
        """Nothing is known yet."""
        self._live[exchange.id] = _Live()

    def admitted(self, exchange: Exchange) -> None:
        """It waited so long."""
        if exchange.admitted is not None:
            self._told.waited.observe(exchange.admitted - exchange.received)

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Count a decision."""
        chosen = self._live.setdefault(exchange.id, _Live()).took(choice, judged)
        attempt, place = judged.attempt, position(judged.segment)
        if unjudged(attempt):
            self._told.unjudged.inc()
            return
        decision = "accepted" if attempt.accepted else "rejected"
        self._told.candidates.labels(place, attempt.channel.value, decision).inc()
        self._told.rewards.labels(place).observe(attempt.reward)
        if judged.verdict is not Verdict.OPEN and not exchange.shadow:
            self._told.attempts.labels(place).observe(attempt.index + 1)
            self._told.segments.labels(judged.verdict.value).inc()
            self._told.escalated.inc(chosen is not None and chosen.proposal != MODEL)

    def ended(self, exchange: Exchange) -> None:
        """Count the request and what it cost."""
        live = self._live.pop(exchange.id, _Live())
        endpoint = exchange.endpoint if exchange.endpoint in _ENDPOINTS else "other"
        outcome = exchange.outcome or Outcome.INTERNAL_ERROR
        self._told.requests.labels(endpoint, outcome.value).inc()
        ended = time.monotonic() if exchange.ended is None else exchange.ended
        self._told.seconds.labels(endpoint).observe(ended - exchange.received)
        if exchange.delivered is not None:
            stream = "true" if exchange.stream else "false"
            self._told.delivered.labels(stream).observe(exchange.delivered - exchange.received)
        for result in exchange.results:
            self._count_usage(result.usage)
            self._told.withdrawn.inc(result.trace.withdrawn)
        self._count_unfinished(live, exchange.results)

    def _count_usage(self, usage: Usage) -> None:
        self._told.prompt.inc(usage.prompt_tokens)
        self._count_tokens(usage.proposed_tokens, usage.kept_tokens)
        self._told.ahead.inc(usage.ahead_tokens)
        self._told.ahead_wasted.inc(usage.ahead_wasted_tokens)
        seconds = usage.seconds
        if seconds.first_candidates is not None:
            self._told.upstream.observe(seconds.first_candidates)
        phases = {name: getattr(seconds, name) for name in ("queued", "prefill", "propose", "score")}
        own = max(0.0, seconds.total - sum(phases.values()))
        for phase, spent in {**phases, "guard": own}.items():
            self._told.phases.labels(phase).observe(spent)

    def _count_unfinished(self, live: _Live, results: Sequence[GuardedResult]) -> None:
        """What was judged of choices that have no result; what was drawn beside it is not known."""
        segments = [segment for result in results for segment in result.trace.segments]
        known = sum(attempt.tokens for segment in segments for attempt in segment.attempts)
        if live.judged > known:
            proposed = live.judged - known
            kept = live.kept - sum(result.usage.kept_tokens for result in results)
            # Segments that were taken back are still among them.
            self._count_tokens(proposed, min(kept, proposed))

    def _count_tokens(self, proposed: int, kept: int) -> None:
        self._told.proposed.inc(proposed)
        self._told.kept.inc(kept)
        self._told.wasted.inc(proposed - kept)
