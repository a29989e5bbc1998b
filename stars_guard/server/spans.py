"""OpenTelemetry spans after the GenAI semantic conventions: one a request, with an event for every decision.

Only the API is used: where the process has no tracer provider, spans cost next to nothing and go nowhere.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from stars_guard.job import Judged
from stars_guard.server.answers import finish_reason, usage
from stars_guard.server.exchange import Exchange, Outcome
from stars_guard.version import __version__

_OPERATIONS = {"chat.completions": "chat", "completions": "text_completion"}
_GOOD = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.CANCELLED)


class Spans:
    """An observer that makes spans.

    Args:
        tracer: by default that of the process.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("stars_guard", __version__)
        self._open: dict[str, Span] = {}

    def began(self, exchange: Exchange) -> None:
        """Open a span, below that of the client if it sent one."""
        operation = _OPERATIONS.get(exchange.endpoint)
        if operation is not None:
            self._open[exchange.id] = self._tracer.start_span(
                operation,
                context=propagate.extract(exchange.headers),
                kind=SpanKind.SERVER,
                attributes={"gen_ai.operation.name": operation, "gen_ai.provider.name": "stars_guard"},
            )

    def admitted(self, exchange: Exchange) -> None:
        """The wait is over."""
        if span := self._open.get(exchange.id):
            span.add_event("stars_guard.admitted")

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """One event for each judged candidate."""
        if span := self._open.get(exchange.id):
            span.add_event("stars_guard.decision", _decision(choice, judged))

    def ended(self, exchange: Exchange) -> None:
        """Close the span."""
        span = self._open.pop(exchange.id, None)
        if span is None:
            return
        span.update_name(f"{_OPERATIONS[exchange.endpoint]} {exchange.model}".strip())
        span.set_attributes(_attributes(exchange))
        if exchange.outcome not in _GOOD:
            kind = type(exchange.error).__name__ if exchange.error else str(exchange.outcome)
            span.set_attribute("error.type", kind)
            span.set_status(StatusCode.ERROR, str(exchange.outcome))
        span.end()


def _decision(choice: int, judged: Judged) -> dict[str, Any]:
    attempt = judged.attempt
    return {
        "stars_guard.choice": choice,
        "stars_guard.segment": judged.segment,
        "stars_guard.attempt": attempt.index,
        "stars_guard.channel": attempt.channel.value,
        "stars_guard.reward": attempt.reward,
        "stars_guard.threshold": attempt.threshold,
        "stars_guard.probability": attempt.probability,
        "stars_guard.uniform": attempt.uniform,
        "stars_guard.accepted": attempt.accepted,
        "stars_guard.verdict": judged.verdict.value,
    }


def _attributes(exchange: Exchange) -> dict[str, Any]:
    counted = usage(exchange.results)
    attributes: dict[str, Any] = {
        "gen_ai.request.model": exchange.model,
        "gen_ai.response.model": exchange.model,
        "gen_ai.response.id": exchange.id,
        "gen_ai.usage.input_tokens": counted["prompt_tokens"],
        "gen_ai.usage.output_tokens": counted["completion_tokens"],
        "gen_ai.response.finish_reasons": [finish_reason(result) for result in exchange.results],
        "http.response.status_code": exchange.status,
        "stars_guard.outcome": str(exchange.outcome),
        "stars_guard.shadow": exchange.shadow,
    }
    if exchange.results:
        sampling = exchange.results[0].trace.sampling
        attributes |= {
            "gen_ai.request.max_tokens": sampling.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.seed": sampling.seed or 0,
        }
    return attributes
