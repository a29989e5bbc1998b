"""OpenTelemetry spans: one for each request, with an event for each decision.

Names follow the semantic conventions for generative AI; what they have no name for begins with
``stars_guard.``. No span holds text of a prompt or an answer. Only the API package is needed: the spans go
wherever the process's tracer provider sends them, and nowhere without one.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from stars_guard.algorithm.config import SamplingParams
from stars_guard.loop.events import Judged
from stars_guard.result import token_counts
from stars_guard.server.telemetry.exchange import Exchange, Outcome, finish_reason
from stars_guard.version import __version__

OUTAGES = frozenset({Outcome.SCORING_ERROR, Outcome.GENERATION_ERROR, Outcome.INTERNAL_ERROR})
"""The outcomes that are errors of the server: their spans have error status."""
_OPERATIONS = {"chat.completions": "chat", "completions": "text_completion"}
_PARENT = TraceContextTextMapPropagator()


class Spans:
    """An observer that writes spans.

    The SDK keeps 128 events of a span unless ``OTEL_SPAN_EVENT_COUNT_LIMIT`` says otherwise; the latest stay.

    Args:
        provider: where tracers come from; None is the process's own.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("stars_guard.server", __version__, provider)
        self._open: dict[str, Span] = {}

    def began(self, exchange: Exchange) -> None:
        """Open a span, as a child of the client's if the request names one."""
        operation = _operation(exchange)
        self._open[exchange.id] = self._tracer.start_span(
            operation,
            context=_PARENT.extract(exchange.headers),
            kind=SpanKind.SERVER,
            attributes={"gen_ai.operation.name": operation, "gen_ai.provider.name": "stars_guard"},
        )

    def admitted(self, exchange: Exchange) -> None:
        """Mark the end of the wait."""
        if span := self._recording(exchange):
            span.add_event("stars_guard.admitted")

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Add the decision ``judged`` about ``choice`` to the span of ``exchange``."""
        if span := self._recording(exchange):
            span.add_event("stars_guard.decision", _decision(choice, judged))

    def ended(self, exchange: Exchange) -> None:
        """Say what became of the request, and close the span."""
        span = self._open.pop(exchange.id, None)
        if span is None:
            return
        if span.is_recording():
            span.update_name(f"{_operation(exchange)} {exchange.model}".rstrip())
            span.set_attributes(_known(exchange))
            if exchange.outcome in OUTAGES:
                span.set_status(Status(StatusCode.ERROR, exchange.outcome.value))
        span.end()

    def _recording(self, exchange: Exchange) -> Span | None:
        span = self._open.get(exchange.id)
        return span if span is not None and span.is_recording() else None


def _operation(exchange: Exchange) -> str:
    return _OPERATIONS.get(exchange.endpoint, exchange.endpoint)


def _decision(choice: int, judged: Judged) -> dict[str, AttributeValue]:
    attempt = judged.attempt
    return {
        "stars_guard.choice": choice,
        "stars_guard.segment": judged.segment,
        "stars_guard.attempt": attempt.index,
        "stars_guard.channel": attempt.channel.value,
        "stars_guard.proposal": attempt.proposal,
        "stars_guard.tokens": attempt.tokens,
        "stars_guard.reward": attempt.reward,
        "stars_guard.threshold": attempt.threshold,
        "stars_guard.probability": attempt.probability,
        "stars_guard.uniform": attempt.uniform,
        "stars_guard.accepted": attempt.accepted,
        "stars_guard.verdict": judged.verdict.value,
    }


def _known(exchange: Exchange) -> Mapping[str, AttributeValue]:
    """What is known at the end."""
    outcome = exchange.outcome or Outcome.INTERNAL_ERROR
    known: dict[str, AttributeValue] = {
        "gen_ai.response.id": exchange.id,
        "gen_ai.request.stream": exchange.stream,
        "http.response.status_code": exchange.status,
        "stars_guard.outcome": outcome.value,
        "stars_guard.shadow": exchange.shadow,
    }
    if exchange.model:
        known |= {"gen_ai.request.model": exchange.model, "gen_ai.response.model": exchange.model}
    if exchange.error is not None:
        known["error.type"] = type(exchange.error).__name__
    if exchange.stream and exchange.delivered is not None:
        known["gen_ai.response.time_to_first_chunk"] = exchange.delivered - exchange.received
    if exchange.requests:
        known |= _parameters(exchange.requests[0].sampling, len(exchange.requests))
    if exchange.results:
        known |= _answered(exchange)
    return known


def _parameters(sampling: SamplingParams, choices: int) -> dict[str, AttributeValue]:
    parameters: dict[str, AttributeValue] = {
        "gen_ai.request.choice.count": choices,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
    }
    if sampling.seed is not None:
        parameters["gen_ai.request.seed"] = sampling.seed
    return parameters


def _answered(exchange: Exchange) -> dict[str, AttributeValue]:
    results = exchange.results
    tokens = token_counts(*results)
    return {
        "gen_ai.response.finish_reasons": [finish_reason(result) for result in results],
        "gen_ai.usage.input_tokens": tokens["prompt_tokens"],
        "gen_ai.usage.output_tokens": tokens["completion_tokens"],
        "stars_guard.run_ids": [result.trace.run_id for result in results],
        "stars_guard.guarantee": results[0].trace.guarantee.value,
        **{f"stars_guard.{name}": total for name, total in exchange.totals.items()},
    }
