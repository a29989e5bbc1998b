"""Traces that are kept: bounded in number and in bytes, and read as they were written."""

from __future__ import annotations

import json
import threading

import pytest

from stars_guard.algorithm.trace import SegmentTrace, Trace
from stars_guard.server import service as service_module
from stars_guard.server.telemetry import exchange as exchange_module
from stars_guard.server.telemetry.trace_store import Traces, TraceStore, trace_size, written_traces
from tests.support.server_client import CHAT, Watcher, asking, chunks, guard, quiet, served

LONG = [["x"]] * 60


def traced(**settings):
    return quiet(traces={"enabled": True, **settings})


def test_traces_are_written_as_json_that_reads_back():
    results = [guard().generate(prompt) for prompt in ("one", "two")]
    traces = [result.trace for result in results]
    written = written_traces(traces, 10**6)
    assert [Trace.model_validate(trace) for trace in json.loads(written)] == traces
    assert written_traces([], 10) == b"[]"


def test_no_more_is_written_of_traces_than_is_kept(monkeypatch):
    trace = guard(LONG).generate("Hi").trace
    written, dump = [], SegmentTrace.model_dump_json

    def noted(segment):
        written.append(segment.index)
        return dump(segment)

    monkeypatch.setattr(SegmentTrace, "model_dump_json", noted)
    assert written_traces([trace], 3000) is None
    assert 0 < len(written) < 20
    whole = written_traces([trace], 10**6)
    assert written_traces([trace], len(whole) - 1) is None
    assert written_traces([trace], len(whole)) == whole


def test_the_size_of_a_trace_is_known_before_it_is_written():
    trace = guard(LONG).generate("Hi").trace
    written = len(written_traces([trace], 10**6))
    assert written / 3 < trace_size([trace]) < written * 3
    assert trace_size([]) == 0
    kept = guard(LONG, keep_rejected_text=True).generate("Hi").trace
    assert trace_size([kept]) > trace_size([trace])


def test_the_oldest_go_first_when_there_are_too_many_bytes():
    store = TraceStore(Traces(enabled=True, max_bytes=100, max_request_bytes=60))
    for name in "abc":
        store.keep(name, "key", b"x" * 40)
    assert (store.of("a", "key"), store.size) == (None, 80)
    assert store.of("c", "key").written == b"x" * 40
    store.keep("d", "key", b"x" * 60)
    assert (store.of("b", "key"), store.size) == (None, 100)
    store.keep("e", "key", None)
    assert store.size == 100
    assert store.of("e", "key").answer("e") is None
    assert store.of("e", "other") is None


async def test_what_all_requests_leave_is_bounded():
    async with served(guard(LONG), traced(max_bytes=40_000)) as client:
        store = client._transport.app.state.service.traces
        ids = []
        for _ in range(12):
            ids.append((await client.post(CHAT, json=asking())).json()["id"])
            assert store.size <= 40_000
        assert (await client.get(f"/v1/traces/{ids[0]}")).json()["error"]["code"] == "trace_not_found"
        kept = await client.get(f"/v1/traces/{ids[-1]}")
        assert kept.json()["id"] == ids[-1]
        assert len(kept.json()["traces"][0]["segments"]) == len(LONG)
        assert kept.headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_trace_that_is_too_large_is_said_to_be(stream):
    async with served(guard(LONG), traced(max_request_bytes=5000)) as client:
        response = await client.post(CHAT, json=asking(stream=stream, stars={"trace": True}))
        last = chunks(response.text)[-2] if stream else response.json()
        (about,) = last["stars"]
        assert (about["trace"], about["trace_left_out"]) == (None, "longer than the 5000 bytes allowed")
        lost = await client.get(f"/v1/traces/{last['id']}")
        assert (lost.status_code, lost.json()["error"]["code"]) == (404, "trace_too_large")
        assert "traces.max_request_bytes=5000" in lost.json()["error"]["message"]
        assert client._transport.app.state.service.traces.size == 0


async def test_reading_a_trace_computes_nothing(monkeypatch):
    async with served(guard(LONG), traced()) as client:
        made = (await client.post(CHAT, json=asking())).json()["id"]
        monkeypatch.setattr(Trace, "model_dump", None)
        monkeypatch.setattr(Trace, "model_dump_json", None)
        assert (await client.get(f"/v1/traces/{made}")).status_code == 200


async def test_what_a_long_answer_cost_is_counted_once_and_by_another_thread(monkeypatch):
    counted, here = [], threading.get_ident()
    count = service_module.totals

    def noted(results):
        counted.append(threading.get_ident() == here)
        return count(results)

    monkeypatch.setattr(service_module, "totals", noted)
    monkeypatch.setattr(exchange_module, "totals", noted)
    watcher = Watcher()
    config = quiet(observability={"logs": "json"})
    async with served(guard(LONG), config, [watcher]) as client:
        assert (await client.post(CHAT, json=asking())).status_code == 200
    assert counted == [False]
    assert watcher.ended_[0].totals["segments"] == len(LONG)
