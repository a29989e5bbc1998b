"""Fields of requests and responses beyond the usual ones: tools, traces, scores; and what fails inside."""

from __future__ import annotations

import json
import logging

import pytest

from stars_guard.server.openai.translate import Translator
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.text.dialects import HERMES, LLAMA3
from tests.support.guards import guarded, hard
from tests.support.server_client import (
    BAD,
    CHAT,
    CannotJudge,
    Watcher,
    asking,
    chunks,
    guard,
    quiet,
    said,
    served,
)

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCORE = "/v1/guard/score"
TRACED = quiet(traces={"enabled": True})


async def posted(body, llm=None, config=None, path=CHAT, **options):
    async with served(llm, config, **options) as client:
        return await client.post(path, json=body)


def called(number):
    function = {"name": f"tool{number}", "arguments": "{}"}
    return {"id": f"c{number}", "type": "function", "function": function}


async def test_a_tools_result_has_the_name_of_its_call():
    seen = []

    def script(prompt):
        seen.extend(prompt.messages)
        return [["Fine."]]

    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [called(1), called(2)]},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "tool", "tool_call_id": "c1", "content": "one", "name": "own"},
        {"role": "tool", "tool_call_id": "c9", "content": "nobody's"},
    ]
    assert (await posted({"messages": turns}, guard(script))).status_code == 200
    assert [message.get("name") for message in seen[2:]] == ["tool2", "own", None]


REFUSED = [
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "x", "parameters": "y"}}]}, "tools"),
    (
        {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"properties": [1]}}}]},
        "tools",
    ),
    ({"tools": [TOOL, TOOL]}, "tools"),
    ({"stream": "true"}, "stream"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ["a"] * 65}, "stop"),
    ({"stop_token_ids": [-1]}, "stop_token_ids.0"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"guided_json": {}}, "guided_json"),
    ({"best_of": 2}, "best_of"),
    ({"stars": {"trace": True}}, "stars.trace"),
    ({"stars": {"beta": 0.5}}, "stars.beta"),
    ({"stars": {"segment_tokens": 1.5}}, "stars.segment_tokens"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": True}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
async def test_what_cannot_be_served_is_refused_by_name(fields, param):
    response = await posted(asking(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_table_of_thresholds_has_no_target_to_choose():
    table = {"kind": "table", "positions": [10], "thresholds": [1.0]}
    config = quiet(limits={"requests": {"target": {}}})
    response = await posted(asking(stars={"target": 2.0}), guard(threshold=table), config)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stars")


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [1, 2]])
async def test_one_text_is_continued_at_a_time(prompt):
    response = await posted({"prompt": prompt}, path="/v1/completions")
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("prompt")


async def test_both_limits_of_an_answer_are_known_and_the_newer_one_counts():
    seen = []
    llm = guard(lambda prompt: [["x"]])
    start = llm.model.start
    llm.model.start = lambda prompt, sampling: (seen.append(sampling), start(prompt, sampling))[1]
    body = asking(max_tokens=5, max_completion_tokens=7, stop_token_ids=[3], top_k=4, min_p=0.5, seed=-1)
    assert (await posted(body, llm)).status_code == 200
    (sampling,) = seen
    assert (sampling.max_tokens, sampling.stop_token_ids) == (7, (3,))
    assert (sampling.top_k, sampling.min_p, sampling.seed) == (4, 0.5, 2**63 - 1)


async def test_a_call_that_cannot_be_made_is_told():
    llm = guard([[HERMES.call("nothing", {"a": 1})]])
    answer = (await posted(asking(tools=[TOOL]), llm)).json()
    assert "tool_calls" not in answer["choices"][0]["message"]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["stars"][0]["invalid_tool_calls"] == [
        {"name": "nothing", "text": "I will use nothing with a: 1", "error": "there is no tool 'nothing'"}
    ]
    assert answer["choices"][0]["message"]["content"] == HERMES.call("nothing", {"a": 1})


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_in_json_is_its_content_while_tools_are_offered(stream):
    text = '{"verdict": "YES"}\nBecause it is.'
    llm = guarded(ScriptedModel([[text]], LLAMA3), KeywordReward([BAD]), hard())
    response = await posted(asking(tools=[TOOL], stream=stream), llm)
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks(response.text)[:-1] if chunk["choices"]]
        content = "".join(delta.get("content") or "" for delta in deltas)
    else:
        content = response.json()["choices"][0]["message"]["content"]
    assert content == text


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_has_a_field_of_its_own(stream):
    llm = guard([["<think>Let me see.</think>"], ["Yes."]])
    response = await posted(asking(stream=stream), llm)
    if stream:
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks(response.text)[:-1]]
        reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
        text = said(chunks(response.text))
    else:
        message = response.json()["choices"][0]["message"]
        reasoning, text = message["reasoning_content"], message["content"]
    assert (reasoning, text) == ("Let me see.", "Yes.")


async def test_nothing_in_a_stream_looks_like_a_line_end():
    odd = "a\u2028b\u0085c\rd\ne"
    response = await posted(asking(stream=True), guard([[odd]]))
    assert response.text.isascii()
    assert said(chunks(response.text)) == odd


@pytest.mark.parametrize("stream", [False, True])
async def test_every_decision_is_in_the_response_where_that_is_asked_for(stream):
    response = await posted(asking(stream=stream, stars={"trace": True}), config=TRACED)
    last = chunks(response.text)[-2] if stream else response.json()
    trace = last["stars"][0]["trace"]
    assert [[attempt["accepted"] for attempt in segment["attempts"]] for segment in trace["segments"]] == [
        [False, True],
        [True],
        [True],
    ]
    assert BAD not in json.dumps(trace)


async def test_a_request_that_failed_has_a_trace():
    async with served(guard(None, CannotJudge("two", BAD)), TRACED) as client:
        failed = await client.post(CHAT, json=asking())
        assert failed.status_code == 503
        trace = (await client.get(f"/v1/traces/{failed.headers['x-request-id']}")).json()["traces"][0]
        assert (trace["stop_reason"], len(trace["segments"])) == ("scoring_error", 2)


async def test_a_score_is_held_against_a_threshold():
    async with served() as client:
        text = {"prompt": "Hi", "response": "bread"}
        usual = (await client.post(SCORE, json=text)).json()
        assert (usual["reward"], usual["threshold"], usual["passes"]) == (1.0, 1.0, True)
        strict = (await client.post(SCORE, json={**text, "threshold": 1.5})).json()
        assert (strict["threshold"], strict["passes"], strict["acceptance_probability"]) == (1.5, False, 0.0)
        empty = await client.post(SCORE, json={"prompt": " ", "response": "x"})
        assert (empty.status_code, empty.json()["error"]["param"]) == (400, "prompt")


async def test_scores_are_admitted_like_answers():
    watcher = Watcher()
    config = quiet(limits={"running": 1, "queued": 0, "max_prompt_characters": 10})
    async with served(config=config, observers=[watcher]) as client:
        admission = client._transport.app.state.service.admission
        async with admission.admitted(1):
            full = await client.post(SCORE, json={"prompt": "Hi", "response": "x"})
        assert full.status_code == 429
        long = await client.post(SCORE, json={"prompt": "Hi", "response": "x" * 9})
        assert long.json()["error"]["code"] == "context_length_exceeded"
        assert (await client.post(SCORE, json={"prompt": "Hi", "response": "x"})).status_code == 200
    assert [exchange.endpoint for exchange in watcher.ended_] == ["guard.score"] * 3
    assert len(watcher.admitted_) == 1


async def test_what_fails_inside_is_an_error_without_its_words(monkeypatch, caplog):
    watcher = Watcher()
    async with served(observers=[watcher]) as client:
        monkeypatch.setattr(Translator, "chat", lambda _, body, key: {}[f"secret {body.messages}"])
        with caplog.at_level(logging.ERROR, logger="stars_guard.server"):
            response = await client.post(CHAT, json=asking("my own words"))
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        monkeypatch.undo()
        assert (await client.post(CHAT, json=asking())).status_code == 200
    assert [exchange.outcome for exchange in watcher.ended_] == ["internal_error", "answered"]
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text + response.text
    assert "own words" not in caplog.text + response.text


async def test_what_fails_inside_a_stream_is_an_error_in_it(monkeypatch):
    async with served() as client:

        def broken(result):
            raise ZeroDivisionError("secret")

        monkeypatch.setattr("stars_guard.server.openai.sse.finish_reason", broken)
        response = await client.post(CHAT, json=asking(stream=True))
        stream = chunks(response.text)
        assert said(stream) == "one two three"
        assert stream[-1]["error"]["code"] == "internal_error"
        assert "secret" not in response.text


async def test_an_observer_that_fails_is_not_heard_of():
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError(name)

    async with served(observers=[Broken()]) as client:
        assert (await client.post(CHAT, json=asking())).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_one_choice_that_fails_fails_the_request(stream):
    turn = iter(["one ", BAD])

    watcher = Watcher()
    llm = guard(lambda prompt: [[next(turn)]], CannotJudge(BAD))
    async with served(llm, observers=[watcher]) as client:
        response = await client.post(CHAT, json=asking(n=2, stream=stream))
        assert BAD not in response.text
        if response.status_code == 200:
            assert chunks(response.text)[-1]["error"]["code"] == "scoring_error"
        else:
            assert response.json()["error"]["code"] == "scoring_error"
        assert client._transport.app.state.service.admission.running == 0
    assert [exchange.outcome for exchange in watcher.ended_] == ["scoring_error"]


async def test_shadow_mode_does_not_say_that_it_judged():
    class Away(KeywordReward):
        def score(self, requests):
            raise OSError("away")

    async with served(guard(None, Away([])), quiet(shadow={"enabled": True})) as client:
        assert (await client.post(CHAT, json=asking())).status_code == 200
        assert (await client.post(SCORE, json={"prompt": "Hi", "response": "x"})).status_code == 503
        assert (await client.get("/health/ready")).status_code == 503


async def test_a_score_under_the_floor_never_passes_whatever_threshold_is_asked_for():
    body = {"prompt": "Hi", "response": BAD, "threshold": -3}
    answer = (await posted(body, guard(acceptance={"kind": "soft", "beta": 9}, floor=0), path=SCORE)).json()
    assert (answer["reward"], answer["passes"], answer["acceptance_probability"]) == (-1.0, False, 0.0)
