"""Answers of the server in the words of the OpenAI API, whole and streamed."""

from __future__ import annotations

import json

import pytest

from stars_guard.algorithm.rules import Last
from stars_guard.prompts import Prompt
from stars_guard.testing import KeywordReward
from stars_guard.text.dialects import HERMES
from tests.support.server_client import BAD, CHAT, Watcher, asking, chunks, guard, quiet, said, served

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TRIES = [[HERMES.call("weather", {"city": city}) for city in (BAD, "Vienna")]]


async def posted(body, llm=None, config=None, path=CHAT, **options):
    async with served(llm, config, **options) as client:
        return await client.post(path, json=body)


async def test_a_whole_answer():
    response = await posted(asking(model="stars-guard"))
    answer = response.json()
    assert response.status_code == 200
    assert answer["object"] == "chat.completion"
    assert answer["id"] == f"chatcmpl-{response.headers['x-request-id']}"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "one two three", "refusal": None}
    assert choice["finish_reason"] == "stop"
    kept = len("one two three")
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": kept, "total_tokens": 1 + kept}
    assert answer["guardrails"]["flagged"] is False
    assert (answer["stars"][0]["attempts"], answer["stars"][0]["guarantee"]) == (4, "token_ids")


async def test_a_stream_holds_accepted_text_only_and_equals_the_whole():
    response = await posted(asking(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    stream = chunks(response.text)
    assert stream[-1] == "data: [DONE]"
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert said(stream) == "one two three"
    assert BAD not in response.text
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in stream[:-1]}) == 1
    assert all(chunk["choices"] for chunk in stream[:-1])
    ends = [chunk["choices"][0]["finish_reason"] for chunk in stream[:-1]]
    assert ends == [None] * (len(ends) - 1) + ["stop"]
    assert stream[-2]["stars"][0]["attempts"] == 4


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_chunks_with_forced_text_say_so(path):
    llm = guard([["one "], [BAD]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    body = asking(stream=True) if path == CHAT else {"prompt": "Hi", "stream": True}
    *stream, last, _ = chunks((await posted(body, llm, path=path)).text)
    marked = [chunk for chunk in stream if chunk.get("stars")]
    assert [chunk["stars"] for chunk in marked] == [[{"forced": True}]]
    (choice,) = marked[0]["choices"]
    assert (choice["delta"]["content"] if path == CHAT else choice["text"]) == BAD
    (stars,) = last["stars"]
    assert (stars["forced"], stars["forced_text"]) == (1, {"answer": [[4, 10]]})


async def test_a_whole_answer_says_where_its_forced_text_is():
    llm = guard([["one "], [BAD]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    (stars,) = (await posted(asking(), llm)).json()["stars"]
    assert stars["forced_text"] == {"answer": [[4, 10]]}


async def test_advice_for_the_operator_is_in_no_response():
    llm = guard([[BAD]] * 3, max_attempts=2, exhaustion=Last(), floor=-9.0)
    (stars,) = (await posted(asking(), llm)).json()["stars"]
    assert stars["forced"] == 3
    assert "advice" not in stars


async def test_a_chunk_with_a_forced_call_says_so():
    llm = guard([TRIES[0][:1]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    stream = chunks((await posted(asking(tools=[WEATHER], stream=True), llm)).text)
    (marked,) = [chunk for chunk in stream[:-2] if chunk.get("stars")]
    assert marked["choices"][0]["delta"]["tool_calls"]


async def test_usage_ends_a_stream_where_it_is_asked_for():
    response = await posted(asking(stream=True, stream_options={"include_usage": True}))
    *_, last, done = chunks(response.text)
    assert (last["choices"], last["usage"]["prompt_tokens"], done) == ([], 1, "data: [DONE]")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_content_and_is_said_in_data(stream):
    llm = guard([["Well. "], [f"{BAD}!"]], max_attempts=2)
    response = await posted(asking(stream=stream), llm)
    if stream:
        events = chunks(response.text)
        text, last = said(events), events[-2]
    else:
        last = response.json()
        text = last["choices"][0]["message"]["content"]
    assert text == "Well. \n\n" + llm.config.refusal_text
    assert last["choices"][0]["finish_reason"] == "content_filter"
    assert last["guardrails"]["flaggedOutput"] is True
    assert last["choices"][0]["content_filter_results"] == {"stars_guard": {"filtered": True}}
    assert BAD not in response.text


async def test_several_choices_have_seeds_of_their_own():
    def script(prompt: Prompt):
        return [["one "], ["two"]]

    answer = (await posted(asking(n=3, seed=7), guard(script))).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    seeds = [stars["seed"] for stars in answer["stars"]]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    again = (await posted(asking(n=3, seed=7), guard(script))).json()
    assert [stars["seed"] for stars in again["stars"]] == seeds
    stream = chunks((await posted(asking(n=2, stream=True), guard(script))).text)
    assert [said(stream, choice) for choice in (0, 1)] == ["one two", "one two"]


async def test_a_tool_call_is_whole_and_was_judged():
    answer = (await posted(asking(tools=[WEATHER], tool_choice="required"), guard(TRIES))).json()
    (choice,) = answer["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Vienna"}


async def test_a_streamed_tool_call_has_its_index():
    stream = chunks((await posted(asking(tools=[WEATHER], stream=True), guard(TRIES))).text)
    (delta,) = [part for chunk in stream[:-1] if "tool_calls" in (part := chunk["choices"][0]["delta"])]
    (call,) = delta["tool_calls"]
    assert (call["index"], call["function"]["arguments"]) == (0, '{"city": "Vienna"}')
    assert stream[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_conversation_as_clients_send_it():
    seen = []

    def script(prompt: Prompt):
        seen.append(prompt)
        return [["Fine."]]

    history = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Weather in "}, {"type": "text", "text": "Rome?"}],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "tool_calls": [
                {
                    "id": "a1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a1", "content": "21 degrees"},
    ]
    body = {
        "messages": history,
        "tools": [WEATHER],
        "tool_choice": None,
        "user": "me",
        "store": False,
        "n": None,
    }
    assert (await posted(body, guard(script))).status_code == 200
    system, user, assistant, tool = seen[0].messages
    assert (system["role"], user["content"]) == ("system", "Weather in Rome?")
    assert assistant["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Rome"}}
    assert (tool["tool_call_id"], tool["content"]) == ("a1", "21 degrees")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_text_completion(stream):
    response = await posted({"prompt": "Once", "stream": stream, "max_tokens": 50}, path="/v1/completions")
    if stream:
        texts = [chunk["choices"][0]["text"] for chunk in chunks(response.text)[:-1]]
        assert "".join(texts) == "one two three"
    else:
        assert response.json()["choices"][0]["text"] == "one two three"
        assert response.json()["object"] == "text_completion"


async def test_a_length_is_a_length():
    answer = (await posted(asking(stop=["two"]))).json()
    assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (
        "one ",
        "stop",
    )
    spent = asking(stars={"max_reward_calls": 3})
    answer = (await posted(spent)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["stars"][0]["stop_reason"] == "reward_budget"


UNSERVED = [
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"n": 99}, "n"),
    ({"temperature": 5}, "temperature"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"stars": {"target": 0.0}}, "stars.target"),
    ({"stars": {"max_attempts": 500}}, "stars.max_attempts"),
    ({"stars": {"colour": 1}}, "stars.colour"),
    ({"stop": ""}, "stop"),
]


@pytest.mark.parametrize(("fields", "param"), UNSERVED)
async def test_what_is_not_served_is_refused_by_name(fields, param):
    response = await posted(asking(**fields))
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


NEUTRAL = {
    "logprobs": False,
    "presence_penalty": 0,
    "logit_bias": None,
    "store": True,
    "service_tier": "auto",
}


async def test_what_asks_for_nothing_is_ignored():
    assert (await posted(asking(**NEUTRAL))).status_code == 200


async def test_a_request_may_choose_within_the_operators_limits():
    allowed = {"target": {"least": 0.5, "most": 2.0}, "segment_tokens": {"least": 1, "most": 256}}
    config = quiet(limits={"requests": allowed})
    assert (
        await posted(asking(stars={"target": 0.5, "segment_tokens": 8}), config=config)
    ).status_code == 200
    response = await posted(asking(stars={"target": 0.1}), config=config)
    assert "at least 0.5 is allowed here" in response.json()["error"]["message"]


async def test_named_tools_and_json_answers_reach_the_guard():
    seen = []

    class Noting(KeywordReward):
        def score(self, requests):
            seen.extend(requests)
            return super().score(requests)

    llm = guard([['{"a": 1}']], Noting([BAD]))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    choice = {"type": "function", "function": {"name": "weather"}}
    body = asking(response_format=schema)
    assert (await posted(body, llm)).json()["choices"][0]["message"]["content"] == '{"a": 1}'
    assert (
        await posted(asking(tools=[WEATHER], tool_choice=choice), guard(TRIES, Noting([BAD])))
    ).status_code == 200
    assert seen[-1].prompt.tools.choice == "weather"


async def test_an_unknown_model_and_path():
    async with served() as client:
        response = await client.post(CHAT, json=asking(model="gpt-9"))
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
        assert (await client.get("/v1/models/gpt-9")).status_code == 404
        assert (await client.get("/v1/models/stars-guard")).json()["id"] == "stars-guard"
        assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["stars-guard"]
        assert (await client.get("/v1/nothing")).json()["error"]["message"].startswith("GET /v1/nothing")
        assert (await client.get(CHAT)).status_code == 405


async def test_scoring_a_text():
    async with served() as client:
        good = (await client.post("/v1/guard/score", json={"prompt": "Hi", "response": "bread"})).json()
        bad = (await client.post("/v1/guard/score", json={**asking(), "response": BAD})).json()
        assert (good["reward"], good["acceptance_probability"]) == (1.0, 1.0)
        assert (bad["reward"], bad["acceptance_probability"]) == (-1.0, 0.0)
        neither = await client.post("/v1/guard/score", json={"response": "x"})
        assert neither.json()["error"]["message"] == "send either prompt or messages"


async def test_observers_are_told_once_of_everything():
    watcher = Watcher()
    async with served(observers=[watcher]) as client:
        await client.post(CHAT, json=asking())
        await client.post(CHAT, json=asking(logprobs=True))
        await client.post(CHAT, json=asking(stream=True))
    assert len(watcher.began_) == len(watcher.ended_) == 3
    assert [exchange.outcome for exchange in watcher.ended_] == ["answered", "rejected", "answered"]
    assert [exchange.status for exchange in watcher.ended_] == [200, 400, 200]
    assert len(watcher.admitted_) == 2
    assert [judged.attempt.accepted for _, judged in watcher.decided_[:4]] == [False, True, True, True]
    assert [len(exchange.results) for exchange in watcher.ended_] == [1, 0, 1]


async def test_traces_are_for_the_key_that_asked():
    config = quiet(traces={"enabled": True, "keep": 1})
    async with served(config=config) as client:
        first, second = [(await client.post(CHAT, json=asking())).json()["id"] for _ in range(2)]
        assert (await client.get(f"/v1/traces/{first}")).status_code == 404  # the oldest went
        answer = (await client.get(f"/v1/traces/{second}")).json()
        assert [len(segment["attempts"]) for segment in answer["traces"][0]["segments"]] == [2, 1, 1]
