"""What a server measures, under the names that dashboards and alerts know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_NAMESPACE = "stars_guard"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ATTEMPTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_POSITIONS = ((0, "0"), (1, "1"), (2, "2"), (3, "3"), (7, "4-7"), (15, "8-15"))


def position(segment: int) -> str:
    """The label for a segment number: the first ones each, later ones together."""
    return next((name for last, name in _POSITIONS if segment <= last), "16+")


class _Registered:
    """Makes metrics of the package's namespace, and registers them.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = partial(Counter, namespace=_NAMESPACE, registry=registry)
        self._gauge = partial(Gauge, namespace=_NAMESPACE, registry=registry)
        self._histogram = partial(Histogram, namespace=_NAMESPACE, registry=registry)


class Instruments(_Registered):
    """Every metric of a server but those of shadow mode.

    Args:
        registry: where they are registered.
        reward_buckets: upper bounds for rewards.
    """

    def __init__(self, registry: CollectorRegistry, reward_buckets: Sequence[float]) -> None:
        super().__init__(registry)
        ProcessCollector(registry=registry)
        self._define_requests()
        self._define_decisions(reward_buckets)
        self._define_costs()
        self._define_server()

    def _define_requests(self) -> None:
        self.requests = self._counter("requests_total", "Requests that ended.", ("endpoint", "outcome"))
        self.seconds = self._histogram(
            "request_seconds", "From receipt to end.", ("endpoint",), buckets=_SECONDS
        )
        self.waited = self._histogram("queue_wait_seconds", "From receipt to admission.", buckets=_SECONDS)
        self.delivered = self._histogram(
            "delivered_first_token_seconds",
            "From receipt to the first accepted text handed to the client.",
            ("stream",),
            buckets=_SECONDS,
        )
        self.upstream = self._histogram(
            "upstream_first_token_seconds",
            "From submission to the first candidates that the language model drew, judged or not.",
            buckets=_SECONDS,
        )

    def _define_decisions(self, reward_buckets: Sequence[float]) -> None:
        self.candidates = self._counter(
            "candidates_total",
            "Judged candidates, by segment number, channel and decision.",
            ("position", "channel", "decision"),
        )
        self.unjudged = self._counter(
            "unjudged_candidates_total", "Candidates that passed unjudged, in shadow mode only."
        )
        self.rewards = self._histogram(
            "reward", "Rewards of judged candidates.", ("position",), buckets=reward_buckets
        )
        self.attempts = self._histogram(
            "segment_attempts", "Candidates judged per segment.", ("position",), buckets=_ATTEMPTS
        )
        self.segments = self._counter("segments_total", "Segments, as decided.", ("verdict",))
        self.withdrawn = self._counter(
            "withdrawn_segments_total", "Accepted segments that were taken back before they were shown."
        )
        self.escalated = self._counter(
            "escalated_segments_total", "Segments that escalation drew, in whatever way."
        )
        self.advised = self._counter(
            "advised_answers_total", "Answers most of whose segments found no acceptable candidate."
        )

    def _define_costs(self) -> None:
        self.proposed = self._counter("proposed_tokens_total", "Tokens drawn, kept or not.")
        self.kept = self._counter("kept_tokens_total", "Tokens that became part of answers.")
        self.wasted = self._counter("wasted_tokens_total", "Tokens drawn for nothing.")
        self.ahead = self._counter(
            "ahead_tokens_total", "Tokens drawn before the segment in front of them was scored."
        )
        self.ahead_wasted = self._counter(
            "ahead_wasted_tokens_total", "Those of them that were drawn for nothing."
        )
        self.prompt = self._counter("prompt_tokens_total", "Tokens of prompts.")
        self.phases = self._histogram(
            "answer_phase_seconds",
            "Wall time of an answer by phase; guard is what is left: the guard's own overhead.",
            ("phase",),
            buckets=_SHORT,
        )

    def _define_server(self) -> None:
        self.call_seconds = self._histogram(
            "reward_call_seconds", "Calls of the reward model.", ("result",), buckets=_SHORT
        )
        self.call_texts = self._histogram("reward_call_texts", "Texts in one call.", buckets=_TEXTS)
        self.queue = self._gauge("queue_depth", "Requests that wait to be admitted.")
        self.queue_limit = self._gauge("queue_limit", "Most requests that may wait.")
        self.running = self._gauge("running_choices", "Answers being written.")
        self.running_limit = self._gauge("running_choices_limit", "Most answers at the same time.")
        self.connections = self._gauge("connections", "Connections of clients.")
        self.connections_limit = self._gauge("connections_limit", "Most connections at the same time.")
        self.closed = self._counter(
            "connections_closed_total",
            "Connections that the server ended before their time, or did not take.",
            ("reason",),
        )
        self.ready = self._gauge("ready", "1 while the server is ready; NaN until it was asked.")
        self.ready.set(float("nan"))
        self.build = self._gauge(
            "build_info", "1; what is served, and how.", ("version", "model", "reward", "guarantee", "mode")
        )


class ShadowInstruments(_Registered):
    """The metrics of shadow mode.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.segments = self._counter(
            "shadow_segments_total",
            "Segments that passed, by segment number and what the guard thought of them.",
            ("position", "judgement"),
        )
        self.answers = self._counter(
            "shadow_answers_total",
            "Answers that passed; flagged: the guard would have rejected something.",
            ("judgement",),
        )
        self.expected_extra_tokens = self._counter(
            "shadow_expected_extra_tokens_total",
            "Tokens that guarding would have drawn beside, estimated from one candidate per segment.",
        )
        self.counterfactuals = self._counter(
            "shadow_counterfactuals_total", "Flagged answers that the guard wrote again.", ("outcome",)
        )
        self.compared_tokens = self._counter(
            "shadow_compared_tokens_total",
            "Tokens drawn for the answers that the guard wrote again, and for those it wrote.",
            ("run",),
        )
