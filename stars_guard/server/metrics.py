"""Prometheus metrics of requests, in a registry of their own. No label holds text of a user."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.responses import Response

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.job import Judged
from stars_guard.result import GuardedResult
from stars_guard.server.admission import Admission
from stars_guard.server.exchange import Exchange, Outcome
from stars_guard.server.shadow import OUTAGE, would_reject
from stars_guard.trace import Verdict
from stars_guard.version import __version__

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ATTEMPTS = (1, 2, 3, 4, 6, 8, 12, 16, 20)
_REWARDS = (-10, -5, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 5, 10)
_LAST_POSITION = 8


def position(segment: int) -> str:
    """A segment's number as a label; late ones share one, so that labels stay few."""
    return str(segment) if segment < _LAST_POSITION else f"{_LAST_POSITION}+"


class Metrics:
    """An observer that counts. Each instance has a registry, so that several apps may share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"stars_guard_{name}", what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"stars_guard_{name}", what, labels, buckets=buckets, registry=self.registry)

        self._requests = counter("requests", "Requests by what became of them.", "endpoint", "outcome")
        self._seconds = histogram("request_seconds", "From receipt to the end.", _SECONDS, "endpoint")
        self._queue = histogram("queue_seconds", "Waiting for room.", _SECONDS)
        self._delivered = histogram(
            "delivered_first_text_seconds", "From receipt to the first text sent to the client.", _SECONDS
        )
        self._upstream = histogram(
            "upstream_first_candidates_seconds",
            "From the guard's start to the first candidates of the language model.",
            _SECONDS,
        )
        self._reward_seconds = histogram("reward_seconds", "Scoring, for each answer.", _SECONDS)
        self._attempts = histogram("attempts_per_segment", "Candidates judged for a segment.", _ATTEMPTS)
        self._rewards = histogram("rewards", "Rewards of judged candidates.", _REWARDS, "position")
        self._judged = counter("judged", "Judged candidates.", "position", "accepted")
        self._segments = counter("segments", "Segments by what became of them.", "verdict")
        self._tokens = counter("tokens", "Tokens drawn: kept, wasted, or ahead of a score.", "kind")
        self._shadow = counter("shadow_rejections", "Segments that shadow mode let pass.", "position", "why")
        self._shadow_tokens = counter("shadow_extra_tokens", "What redrawing them would have cost.")
        Gauge("stars_guard_build", "Version.", ["version"], registry=self.registry).labels(__version__).set(1)
        # Every outcome is there from the start, so that a rate over it is 0 rather than nothing.
        for outcome in Outcome:
            self._requests.labels("chat.completions", outcome.value)

    def watch(self, admission: Admission, llm: StarsGuardedLLM) -> None:
        """Also show what runs and what waits, and how exactly the engine continues."""

        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"stars_guard_{name}", what, registry=self.registry)

        gauge("running_choices", "Choices being served.").set_function(lambda: admission.running)
        gauge("queue_depth", "Requests that wait.").set_function(lambda: admission.queued)
        level = Gauge("stars_guard_guarantee", "Declared level.", ["level"], registry=self.registry)
        level.labels(llm.engine.proposers.guarantee.value).set(1)

    def response(self) -> Response:
        """All of it, as Prometheus reads it."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    def began(self, exchange: Exchange) -> None:
        """It is counted at the end."""

    def admitted(self, exchange: Exchange) -> None:
        """Count the wait."""
        if exchange.admitted is not None:
            self._queue.observe(exchange.admitted - exchange.received)

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Count a judgement, and a segment that it ended."""
        place, attempt = position(judged.segment), judged.attempt
        self._judged.labels(place, str(attempt.accepted).lower()).inc()
        if OUTAGE not in attempt.components:
            self._rewards.labels(place).observe(attempt.reward)
        if judged.verdict is not Verdict.OPEN:
            self._segments.labels(judged.verdict.value).inc()
            self._attempts.observe(attempt.index + 1)

    def ended(self, exchange: Exchange) -> None:
        """Count the request, and what it cost."""
        if exchange.outcome is not None:
            self._requests.labels(exchange.endpoint, exchange.outcome.value).inc()
        if exchange.ended is not None:
            self._seconds.labels(exchange.endpoint).observe(exchange.ended - exchange.received)
        if exchange.delivered is not None:
            self._delivered.observe(exchange.delivered - exchange.received)
        for result in exchange.results:
            self._count(result, shadow=exchange.shadow)

    def _count(self, result: GuardedResult, *, shadow: bool) -> None:
        usage = result.usage
        if usage.seconds.first_candidates is not None:
            self._upstream.observe(usage.seconds.first_candidates)
        self._reward_seconds.observe(usage.seconds.score)
        self._tokens.labels("kept").inc(usage.kept_tokens)
        self._tokens.labels("wasted").inc(max(0, usage.proposed_tokens - usage.kept_tokens))
        self._tokens.labels("ahead").inc(usage.ahead_tokens)
        for record in would_reject(result) if shadow else ():
            self._shadow.labels(position(record["segment"]), "outage" if record["outage"] else "reward").inc()
            self._shadow_tokens.inc(record["extra_tokens"])
