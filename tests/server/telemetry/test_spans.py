"""Spans of real traffic: the names of the semantic conventions, an event for each decision, and no text."""

from __future__ import annotations

import pytest
from opentelemetry import trace as process
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode

from stars_guard.algorithm.rules import Raise
from stars_guard.server.telemetry.exchange import Outcome
from stars_guard.server.telemetry.spans import Spans
from stars_guard.testing import FailingReward
from tests.support.observed import CONFIG, MARKER, asked, end, exchange, guard, serve, turned_away

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Spans(provider)
    provider.shutdown()


async def test_a_request_is_a_span_by_the_semantic_conventions(spans, exporter):
    ended = await serve(guard(), [spans], [asked(temperature=0.5, max_tokens=99)], stream=True)
    (span,) = exporter.get_finished_spans()
    (result,) = ended.results
    assert span.name == "chat served"
    assert span.kind is SpanKind.SERVER
    assert span.parent is None
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stars_guard",
        "gen_ai.request.model": "served",
        "gen_ai.response.model": "served",
        "gen_ai.response.id": ended.id,
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": result.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": result.usage.kept_tokens,
        "http.response.status_code": 200,
        "stars_guard.outcome": "answered",
        "stars_guard.guarantee": "token_ids",
        "stars_guard.run_ids": (result.trace.run_id,),
        "stars_guard.segments": 2,
        "stars_guard.attempts": 3,
        "stars_guard.advised": 0,
    }
    assert expected.items() <= dict(span.attributes).items()
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.skipif(
    not hasattr(gen_ai_attributes, "GEN_AI_REQUEST_STREAM"), reason="conventions from before these names"
)
async def test_the_names_are_those_of_the_conventions(spans, exporter):
    await serve(guard(), [spans], stream=True)
    (span,) = exporter.get_finished_spans()
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI")}
    used = {name for name in span.attributes if name.startswith("gen_ai.")}
    assert len(used) > 10
    assert used <= known


async def test_every_decision_is_an_event_with_its_numbers(spans, exporter):
    ended = await serve(guard(), [spans])
    (span,) = exporter.get_finished_spans()
    events = [dict(event.attributes) for event in span.events if event.name == "stars_guard.decision"]
    attempts = [
        (segment.index, attempt)
        for segment in ended.results[0].trace.segments
        for attempt in segment.attempts
    ]
    assert len(events) == len(attempts) == 3
    for event, (segment, attempt) in zip(events, attempts, strict=True):
        assert event["stars_guard.segment"] == segment
        assert event["stars_guard.attempt"] == attempt.index
        for name in ("reward", "threshold", "probability", "uniform", "accepted", "tokens"):
            assert event[f"stars_guard.{name}"] == getattr(attempt, name)
    assert [event["stars_guard.verdict"] for event in events] == ["open", "accepted", "accepted"]
    assert {event["stars_guard.channel"] for event in events} == {"answer"}
    assert span.events[0].name == "stars_guard.admitted"


async def test_choices_are_told_apart(spans, exporter):
    await serve(guard(), [spans], [asked(seed=1), asked(seed=2)])
    (span,) = exporter.get_finished_spans()
    choices = [event.attributes["stars_guard.choice"] for event in span.events[1:]]
    assert (choices.count(0), choices.count(1)) == (3, 3)
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop", "stop")


async def test_the_client_s_trace_is_the_parent(spans, exporter):
    await serve(guard(), [spans], headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    (span,) = exporter.get_finished_spans()
    assert format(span.context.trace_id, "032x") == TRACE
    assert format(span.parent.span_id, "016x") == PARENT


async def test_a_client_that_is_not_sampled_is_not_recorded(spans, exporter):
    await serve(guard(), [spans], headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert exporter.get_finished_spans() == ()


async def test_a_broken_traceparent_begins_a_trace(spans, exporter):
    await serve(guard(), [spans], headers={"traceparent": MARKER})
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.SCORING_ERROR, StatusCode.ERROR),
        (Outcome.GENERATION_ERROR, StatusCode.ERROR),
        (Outcome.INTERNAL_ERROR, StatusCode.ERROR),
        (Outcome.REJECTED, StatusCode.UNSET),
        (Outcome.TIMED_OUT, StatusCode.UNSET),
        (Outcome.CANCELLED, StatusCode.UNSET),
    ],
)
def test_outages_and_only_they_are_errors(spans, exporter, outcome, status):
    turned_away([spans], outcome, model="")
    (span,) = exporter.get_finished_spans()
    assert span.name == "chat"
    assert span.status.status_code is status
    assert span.attributes["stars_guard.outcome"] == outcome.value


async def test_a_refusal_is_a_finish_reason_and_exhaustion_an_error_type(spans, exporter):
    await serve(guard([["bad"]]), [spans], endpoint="completions")
    await serve(guard([["bad"]], config=CONFIG.changed(exhaustion=Raise())), [spans])
    refused, exhausted = exporter.get_finished_spans()
    assert refused.name == "text_completion served"
    assert refused.attributes["gen_ai.response.finish_reasons"] == ("content_filter",)
    assert exhausted.attributes["error.type"] == "NoAcceptableSegment"
    assert exhausted.status.status_code is StatusCode.UNSET


async def test_other_endpoints_are_named_after_themselves(spans, exporter):
    end(exchange(endpoint="guard.score"), [spans])  # never begun: nothing to end
    turned_away([spans], endpoint="guard.score")
    (span,) = exporter.get_finished_spans()
    assert span.name == "guard.score served"


async def test_nothing_that_users_wrote_is_in_a_span(spans, exporter):
    await serve(guard(), [spans], [asked(stop=(MARKER,))])
    await serve(guard(reward=FailingReward(OSError(MARKER))), [spans])
    assert len(exporter.get_finished_spans()) == 2
    for span in exporter.get_finished_spans():
        assert MARKER not in span.to_json()


async def test_a_seed_that_is_not_known_is_not_told(spans, exporter):
    end_early = exchange(requests=[asked(seed=None)], outcome=Outcome.CANCELLED)
    spans.began(end_early)
    spans.ended(end_early)
    (span,) = exporter.get_finished_spans()
    assert "gen_ai.request.seed" not in span.attributes


async def test_without_a_provider_nothing_is_recorded_and_nothing_kept():
    assert isinstance(process.get_tracer_provider(), process.ProxyTracerProvider)
    spans = Spans()
    assert (await serve(guard(), [spans])).outcome is Outcome.ANSWERED
    assert spans._open == {}
