"""Prometheus metrics of one server, in a registry of its own.

Labels hold what is named here or by the operator: never text of users, and never unboundedly many values.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from stars_guard.algorithm.trace import Attempt, Verdict
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged
from stars_guard.result import GuardedResult, Usage
from stars_guard.rewards.base import RewardModel, ScoreRequest, WrappedReward
from stars_guard.server.telemetry.closing import Closing
from stars_guard.server.telemetry.exchange import Exchange, Outcome
from stars_guard.server.telemetry.instruments import Instruments, position
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.shadow import unjudged
from stars_guard.types import Reward
from stars_guard.version import __version__

ANSWERING = ("chat.completions", "completions")
"""The endpoints that are guarded."""
_ENDPOINTS = (*ANSWERING, "guard.score", "models", "traces")


class Occupancy(Protocol):
    """How full the server is."""

    running: int
    """Choices being served."""

    @property
    def queued(self) -> int:
        """Requests that wait."""


@dataclass(slots=True, eq=False)
class _Live:
    """What was judged of a request that is being served."""

    judged: int = 0
    """Tokens of judged candidates."""
    kept: int = 0
    """Tokens that became part of answers."""
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    """Attempts at the segment that is being decided, by choice."""

    def took(self, choice: int, judged: Judged) -> Attempt | None:
        """Note a decision, and give the attempt that is now part of the answer, if there is one."""
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
        self._instruments = Instruments(self.registry, (settings or ObservabilitySettings()).reward_buckets)
        self._live: dict[str, _Live] = {}
        for endpoint, outcome in product(ANSWERING, Outcome):
            self._instruments.requests.labels(endpoint, outcome.value)
        for verdict in set(Verdict) - {Verdict.OPEN, Verdict.WITHDRAWN}:
            self._instruments.segments.labels(verdict.value)
        for reason in Closing:
            self._instruments.closed.labels(reason.value)
        for result in ("scored", "failed"):
            self._instruments.call_seconds.labels(result)

    def watch(
        self, occupancy: Occupancy, llm: StarsGuardedLLM, *, running: int, queued: int, shadow: bool
    ) -> None:
        """Have the gauges show how full the server is, and what is served.

        Args:
            occupancy: asked whenever the metrics are read.
            llm: names and guarantee level of what is served.
            running: most choices at the same time.
            queued: most requests that wait.
            shadow: whether the guard only watches.
        """
        self._instruments.queue.set_function(lambda: occupancy.queued)
        self._instruments.running.set_function(lambda: occupancy.running)
        self._instruments.queue_limit.set(queued)
        self._instruments.running_limit.set(running)
        guarantee = llm.loop.rounds.proposers.guarantee.value
        mode = "shadow" if shadow else "guard"
        self._instruments.build.labels(__version__, llm.model.name, llm.reward.name, guarantee, mode).set(1)

    def watch_connections(self, count: Callable[[], int], most: int) -> None:
        """Have the gauges show how many connections there are.

        Args:
            count: number of connections, asked whenever the metrics are read.
            most: most of them at the same time.
        """
        self._instruments.connections.set_function(count)
        self._instruments.connections_limit.set(most)

    def closed(self, reason: Closing) -> None:
        """Count a connection that the server ended, or did not take."""
        self._instruments.closed.labels(reason.value).inc()

    def readiness(self, problem: str | None) -> None:
        """Show whether the server is ready: it is where ``problem`` is None."""
        self._instruments.ready.set(problem is None)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All metrics, and their content type, in the form that the scraper's header ``accept`` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    async def response(self, request: Request) -> Response:
        """Answer ``/metrics``."""
        body, content_type = self.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    def scored(self, seconds: float, texts: int, result: str) -> None:
        """Count a call of the reward model.

        Args:
            seconds: how long it took.
            texts: how many it was asked to score.
            result: ``scored`` or ``failed``.
        """
        self._instruments.call_seconds.labels(result).observe(seconds)
        self._instruments.call_texts.observe(texts)

    def began(self, exchange: Exchange) -> None:
        """Expect decisions about the request."""
        self._live[exchange.id] = _Live()

    def admitted(self, exchange: Exchange) -> None:
        """Count how long the request waited."""
        if exchange.admitted is not None:
            self._instruments.waited.observe(exchange.admitted - exchange.received)

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Count the decision ``judged`` about ``choice`` of ``exchange``."""
        chosen = self._live.setdefault(exchange.id, _Live()).took(choice, judged)
        attempt, place = judged.attempt, position(judged.segment)
        if unjudged(attempt):
            self._instruments.unjudged.inc()
            return
        decision = "accepted" if attempt.accepted else "rejected"
        self._instruments.candidates.labels(place, attempt.channel.value, decision).inc()
        self._instruments.rewards.labels(place).observe(attempt.reward)
        if judged.verdict is not Verdict.OPEN and not exchange.shadow:
            self._instruments.attempts.labels(place).observe(attempt.index + 1)
            self._instruments.segments.labels(judged.verdict.value).inc()
            self._instruments.escalated.inc(chosen is not None and chosen.escalated)

    def ended(self, exchange: Exchange) -> None:
        """Count the request and what it cost."""
        live = self._live.pop(exchange.id, _Live())
        endpoint = exchange.endpoint if exchange.endpoint in _ENDPOINTS else "other"
        outcome = exchange.outcome or Outcome.INTERNAL_ERROR
        self._instruments.requests.labels(endpoint, outcome.value).inc()
        ended = time.monotonic() if exchange.ended is None else exchange.ended
        self._instruments.seconds.labels(endpoint).observe(ended - exchange.received)
        if exchange.delivered is not None:
            stream = "true" if exchange.stream else "false"
            self._instruments.delivered.labels(stream).observe(exchange.delivered - exchange.received)
        for result in exchange.results:
            self._count_usage(result.usage)
            self._instruments.withdrawn.inc(result.trace.withdrawn)
            self._instruments.advised.inc(result.advice is not None)
        self._count_unfinished(live, exchange.results)

    def _count_usage(self, usage: Usage) -> None:
        self._instruments.prompt.inc(usage.prompt_tokens)
        self._count_tokens(usage.proposed_tokens, usage.kept_tokens)
        self._instruments.ahead.inc(usage.ahead_tokens)
        self._instruments.ahead_wasted.inc(usage.ahead_wasted_tokens)
        seconds = usage.seconds
        if seconds.first_candidates is not None:
            self._instruments.upstream.observe(seconds.first_candidates)
        phases = {name: getattr(seconds, name) for name in ("queued", "prefill", "propose", "score")}
        overhead = max(0.0, seconds.total - sum(phases.values()))
        for phase, spent in {**phases, "guard": overhead}.items():
            self._instruments.phases.labels(phase).observe(spent)

    def _count_unfinished(self, live: _Live, results: Sequence[GuardedResult]) -> None:
        """Count what was judged of choices without a result; what else was drawn for them is not known."""
        segments = [segment for result in results for segment in result.trace.segments]
        known = sum(attempt.tokens for segment in segments for attempt in segment.attempts)
        if live.judged > known:
            proposed = live.judged - known
            kept = live.kept - sum(result.usage.kept_tokens for result in results)
            # Segments that were taken back are still among them.
            self._count_tokens(proposed, min(kept, proposed))

    def _count_tokens(self, proposed: int, kept: int) -> None:
        self._instruments.proposed.inc(proposed)
        self._instruments.kept.inc(kept)
        self._instruments.wasted.inc(proposed - kept)


class TimedReward(WrappedReward):
    """A reward model whose calls are measured.

    Args:
        reward: scores.
        measured: takes the seconds of a call, the texts in it, and ``scored`` or ``failed``; called on the
            thread that scored.

    Attributes:
        pending: calls that have not come back.
    """

    def __init__(self, reward: RewardModel, measured: Callable[[float, int, str], None]) -> None:
        super().__init__(reward)
        self._measured = measured
        self._lock = threading.Lock()
        self.pending = 0

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """Score with the reward model, and say how long it took."""
        begun = time.monotonic()
        self._count(1)
        result = "failed"
        try:
            rewards = self.reward.score(requests)
            result = "scored"
            return rewards
        finally:
            self._count(-1)
            self._measured(time.monotonic() - begun, len(requests), result)

    def _count(self, more: int) -> None:
        with self._lock:
            self.pending += more
