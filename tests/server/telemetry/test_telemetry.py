"""The server as it is watched: metrics, spans, logs and shadow mode through the whole application."""

from __future__ import annotations

import io
import json
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.loading.calibrated import CalibratedConfig
from stars_guard.server.config import ServerConfig
from stars_guard.server.telemetry.logs import write_logs
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.server.telemetry.spans import Spans
from stars_guard.testing import FailingReward, SelfBatchingModel
from tests.support.server_client import BAD, CHAT, asking, chunks, guard, quiet, said, served

MARKER = "Zanzibar"
WATCHED, GUARDED = f"{BAD} two three", "one two three"


def shadow(**settings):
    return quiet(shadow={"enabled": True, **settings})


async def metrics(client):
    return (await client.get("/metrics")).text


def service(client):
    return client._transport.app.state.service


async def test_requests_and_decisions_are_at_metrics():
    async with served() as client:
        assert (await client.post(CHAT, json=asking())).json()["choices"][0]["message"]["content"] == GUARDED
        await client.post(CHAT, json=asking(logprobs=True))
        shown = await metrics(client)
    counted = 'stars_guard_requests_total{endpoint="chat.completions",outcome="%s"} 1.0'
    assert counted % "answered" in shown
    assert counted % "rejected" in shown
    assert 'stars_guard_segments_total{verdict="accepted"} 3.0' in shown
    assert 'stars_guard_reward_call_seconds_count{result="scored"}' in shown
    assert 'mode="guard",model="scripted",reward="keywords"' in shown
    assert "stars_guard_queue_limit 128.0" in shown


async def test_metrics_can_be_left_out():
    async with served(config=quiet(observability={"metrics": False, "logs": "off"})) as client:
        assert (await client.get("/metrics")).status_code == 404


async def test_readiness_is_a_metric_once_it_was_asked():
    async with served() as client:
        assert "stars_guard_ready NaN" in await metrics(client)
        await client.get("/health/ready")
        assert "stars_guard_ready 1.0" in await metrics(client)
    async with served(guard(reward=FailingReward(OSError()))) as client:
        await client.get("/health/ready")
        assert "stars_guard_ready 0.0" in await metrics(client)


async def test_two_applications_count_apart():
    async with served() as first, served() as other:
        await first.post(CHAT, json=asking())
        line = 'stars_guard_requests_total{endpoint="chat.completions",outcome="answered"} '
        assert line + "1.0" in await metrics(first)
        assert line + "0.0" in await metrics(other)


async def test_a_stream_is_one_span_with_an_event_for_each_decision():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    async with served(observers=[Spans(provider)]) as client:
        await client.post(CHAT, json=asking(stream=True, seed=5, max_tokens=50), headers=headers)
    (span,) = exporter.get_finished_spans()
    provider.shutdown()
    assert span.name == "chat stars-guard"
    assert format(span.context.trace_id, "032x") == trace
    assert span.attributes["gen_ai.request.seed"] == 5
    assert span.attributes["gen_ai.request.max_tokens"] == 50
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert [event.name for event in span.events].count("stars_guard.decision") == 4


@pytest.fixture
def written():
    logger, stream = logging.getLogger("stars_guard"), io.StringIO()
    before = logger.level
    handler = write_logs(ObservabilitySettings(), stream)
    yield stream
    logging.getLogger().removeHandler(handler)
    logger.level = before


@pytest.mark.parametrize("enabled", [False, True])
async def test_nothing_that_users_wrote_is_in_logs_metrics_or_spans(written, enabled):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    config = ServerConfig(shadow={"enabled": enabled, "compared": 1.0})
    bodies = [
        asking(MARKER, stop=[MARKER]),
        asking(MARKER, model=MARKER),
        asking(MARKER, stream=True, user=MARKER),
        asking(MARKER, logit_bias={MARKER: 1}),
        {MARKER: MARKER},
    ]
    script = [[f"{BAD} {MARKER} ", f"good {MARKER} "], ["end"]]
    scripts = [guard(script), guard(script, reward=FailingReward(OSError(MARKER)))]
    for llm in scripts:
        async with served(llm, config, [Spans(provider)]) as client:
            for body in bodies:
                await client.post(CHAT, json=body, headers={"traceparent": MARKER, "x-request-id": MARKER})
            await client.get(f"/v1/traces/{MARKER}")
            await client.get(f"/v1/{MARKER}")
            if recorder := service(client).telemetry.recorder:
                await recorder.settled()
                assert MARKER not in "".join(record.model_dump_json() for record in recorder.records)
            assert MARKER not in await metrics(client)
    provider.shutdown()
    lines = map(json.loads, written.getvalue().splitlines())
    requests = [line for line in lines if line["message"] == "request"]
    assert len(requests) == len(exporter.get_finished_spans()) == 2 * (len(bodies) + 2)
    assert MARKER not in written.getvalue()
    assert all(MARKER not in span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.parametrize("stream", [False, True])
async def test_in_shadow_mode_the_answer_is_the_language_model_s(stream):
    async with served(config=shadow()) as client:
        response = await client.post(CHAT, json=asking(stream=stream))
        shown = await metrics(client)
    text = said(chunks(response.text)) if stream else response.json()["choices"][0]["message"]["content"]
    assert text == WATCHED
    assert 'stars_guard_shadow_answers_total{judgement="flagged"} 1.0' in shown
    assert 'stars_guard_shadow_segments_total{judgement="rejected",position="0"} 1.0' in shown
    assert 'mode="shadow"' in shown


async def test_a_request_cannot_make_a_shadow_choose():
    fields = {"stars": {"max_attempts": 5, "max_reward_calls": 1}}
    async with served(config=shadow()) as client:
        response = await client.post(CHAT, json=asking(**fields))
    assert response.json()["choices"][0]["message"]["content"] == WATCHED


async def test_an_outage_of_the_reward_model_shows_in_everything_but_the_answer():
    async with served(guard(reward=FailingReward(OSError())), shadow()) as client:
        answer = await client.post(CHAT, json=asking())
        assert answer.json()["choices"][0]["message"]["content"] == WATCHED
        assert (await client.get("/health/ready")).status_code == 503
        score = await client.post("/v1/guard/score", json={"prompt": "Hi", "response": "Hello."})
        assert score.status_code == 503
        shown = await metrics(client)
    assert "stars_guard_unjudged_candidates_total 3.0" in shown
    assert 'stars_guard_shadow_answers_total{judgement="unjudged"} 1.0' in shown


async def test_answers_are_written_again_by_the_guard_that_is_configured(tmp_path):
    llm = guard()
    config = CalibratedConfig(threshold=Constant(target=1.0), acceptance=Hard(), made_for=None)
    llm = type(llm)(SelfBatchingModel(llm.model), llm.reward, config)
    file = tmp_path / "shadow.jsonl"
    async with served(llm, shadow(compared=1.0, keep_text=True, file=file)) as client:
        await client.post(CHAT, json=asking(n=2, seed=3))
        telemetry = service(client).telemetry
        await telemetry.recorder.settled()
        records = list(telemetry.recorder.records)
        shown = await metrics(client)
        await telemetry.aclose()
    assert records[0].text == WATCHED
    outcomes = sorted(record.counterfactual.outcome for record in records if record.counterfactual)
    assert outcomes == ["replaced"]
    assert f'stars_guard_shadow_counterfactuals_total{{outcome="skipped"}} {2 - len(outcomes)}.0' in shown
    (again,) = [record.counterfactual for record in records if record.counterfactual]
    assert again.text == GUARDED
    assert len(file.read_text("utf-8").splitlines()) == 2


async def test_a_server_that_guards_closes_without_records():
    async with served() as client:
        await service(client).telemetry.aclose()
