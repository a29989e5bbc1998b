"""How requests are read: only where there is room, only so many of anything, and not on the event loop."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError
from stars_guard.loop.request import RequestInFlight
from stars_guard.server import generation, service
from stars_guard.server.entry import body as body_module
from stars_guard.server.entry.workers import SMALL, Workers
from stars_guard.server.openai import conversation, sse
from stars_guard.server.openai.faults import Fault
from stars_guard.server.openai.limits import SizeLimits
from stars_guard.server.openai.translate import Translator
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, ScoreBody
from tests.support.server_client import CHAT, asking, guard, quiet, served

TEXT = "/v1/completions"
SCORE = "/v1/guard/score"
LARGE = "x" * (SMALL + 1)
TOOL = {"type": "function", "function": {"name": "weather"}}


def _within(values):
    return st.lists(values, max_size=4) | st.dictionaries(st.text('b,{"', max_size=3), values, max_size=4)


def _values(value):
    """JSON values in a value, as the server counts them: an empty list or object is counted twice."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + (sum(map(_values, inner)) or isinstance(value, list | dict))


def call(arguments):
    function = {"name": "weather", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]}


@pytest.fixture
def places(monkeypatch):
    """Each step of reading a request, and whether it was done by the thread of the event loop."""
    seen, here = [], threading.get_ident()

    def noting(name, step):
        def noted(*arguments, **options):
            seen.append((name, threading.get_ident() == here))
            return step(*arguments, **options)

        return noted

    monkeypatch.setattr(body_module, "from_json", noting("parsed", body_module.from_json))
    for model in (ChatRequest, CompletionRequest, ScoreBody):
        monkeypatch.setattr(model, "model_validate", noting("validated", model.model_validate))
    for name in ("chat", "completion", "to_score"):
        monkeypatch.setattr(Translator, name, noting("translated", getattr(Translator, name)))
    return seen


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, asking(LARGE)),
        (CHAT, asking(stop=["ab"], tools=[{**TOOL, "more": LARGE}])),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 900}]}),
        (TEXT, {"prompt": LARGE}),
        (SCORE, {"prompt": "Hi", "response": LARGE}),
    ],
)
async def test_a_large_request_is_read_by_other_threads_than_the_event_loops(path, body, places):
    async with served() as client:
        assert (await client.post(path, json=body)).status_code == 200
    assert places == [("parsed", False), ("validated", False), ("translated", False)]


async def test_a_small_request_is_read_at_once(places):
    async with served() as client:
        assert (await client.post(CHAT, json=asking())).status_code == 200
    assert places == [("parsed", True), ("validated", True), ("translated", True)]


async def test_the_answer_to_a_request_and_its_trace_are_written_by_other_threads(monkeypatch):
    seen, here = set(), threading.get_ident()

    def noting(where, name):
        step = getattr(where, name)

        def noted(*arguments, **options):
            seen.add((name, threading.get_ident() == here))
            return step(*arguments, **options)

        monkeypatch.setattr(where, name, noted)

    noting(generation, "JSONResponse")
    noting(service, "written_traces")
    config = quiet(traces={"enabled": True})
    async with served(guard([["x"]] * 1000), config) as client:
        assert (await client.post(CHAT, json=asking())).status_code == 200
        monkeypatch.setattr(sse, "encoded", lambda value: _noted(value, seen, here))
        assert (await client.post(CHAT, json=asking(stream=True))).status_code == 200
    assert {("JSONResponse", False), ("written_traces", False), ("ending", False)} == seen


def _noted(value, seen, here):
    if "stars" in value:
        seen.add(("ending", threading.get_ident() == here))
    return b"data: {}\n\n"


OVER = [
    (asking(stop=["a"] * 3), "stop", "stop has 3 strings, over limits.max_stops=2 here"),
    (
        asking(stop="a" * 9),
        "stop",
        "stop has 9 characters, over limits.max_stop_characters=8 here",
    ),
    (asking(stop=["a", "b" * 9]), "stop", "limits.max_stop_characters=8"),
    ({"messages": asking()["messages"] * 4}, "messages", "limits.max_messages=3"),
    (asking(tools=[TOOL] * 3), "tools", "limits.max_tools=2"),
    (asking(extra=[1] * 60), None, "the body has more values than limits.max_values=60 here"),
    (asking(extra={str(number): {} for number in range(60)}), None, "limits.max_values=60"),
    ('"a"' * 200 + "," * 60, None, "limits.max_values=60"),
]


@pytest.mark.parametrize(("body", "param", "message"), OVER)
async def test_more_than_the_server_takes_is_a_400_that_names_the_limit(body, param, message, places):
    limits = {"max_stops": 2, "max_stop_characters": 8, "max_messages": 3, "max_tools": 2, "max_values": 60}
    async with served(config=quiet(limits=limits)) as client:
        content = body if isinstance(body, str) else json.dumps(body)
        response = await client.post(CHAT, content=content, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert message in error["message"]
    assert "validated" not in dict(places)


async def test_as_much_as_the_server_takes_is_answered():
    limits = {"max_stops": 2, "max_stop_characters": 8, "max_messages": 3, "max_tools": 2, "max_values": 60}
    body = {"messages": asking()["messages"] * 3, "stop": ["a" * 8, "b" * 8], "tools": [TOOL]}
    # Marks of JSON within texts, escaped quotes included, are not counted.
    body["messages"][0] = {"role": "user", "content": 'a,[{"\\' * 100}
    async with served(config=quiet(limits=limits)) as client:
        assert (await client.post(CHAT, json=body)).status_code == 200


async def test_by_default_more_stop_strings_than_any_client_of_the_openai_api_sends():
    async with served() as client:
        many = ["a" * 255 + str(number) for number in range(10)]
        assert (await client.post(CHAT, json=asking(stop=many))).status_code == 200
        for stop in (["a"] * 17, "z" * 257):
            assert (await client.post(CHAT, json=asking(stop=stop))).status_code == 400


async def test_arguments_of_calls_are_measured_before_they_are_parsed(monkeypatch):
    parsed = []
    read = conversation.past_tool_call
    monkeypatch.setattr(conversation, "past_tool_call", lambda *call: parsed.append(call) or read(*call))
    body = {"messages": [*asking()["messages"], call("[" + "1," * 50 + "1]")]}
    async with served(config=quiet(limits={"max_prompt_characters": 100})) as client:
        response = await client.post(CHAT, json=body)
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert not parsed
        strange = {"role": "assistant", "tool_calls": [{"function": "x"}, {"function": {"arguments": {}}}]}
        response = await client.post(CHAT, json={"messages": [*asking()["messages"], strange]})
        assert response.status_code == 200


@pytest.mark.parametrize("name", ["model", "stars"])
async def test_what_a_client_made_up_is_not_repeated_at_length(name):
    wrong = {"model": "m" * 50_000, "stars": {"s" * 50_000: 1}}[name]
    async with served() as client:
        response = await client.post(CHAT, json=asking(**{name: wrong}))
    assert response.status_code in (400, 404)
    assert len(response.content) < 3000


async def test_a_request_has_its_place_before_it_is_read_and_leaves_it_at_its_end(places):
    going_on = threading.Event()

    def script(prompt):
        assert going_on.wait(60)
        return [["done"]]

    config = quiet(limits={"running": 1, "queued": 1})
    async with served(guard(script), config) as client:
        running = [asyncio.create_task(client.post(CHAT, json=asking())) for _ in range(2)]
        service = client._transport.app.state.service
        while service.admission.running + service.admission.queued < 2:
            await asyncio.sleep(0.002)
        places.clear()
        third = await client.post(CHAT, content=b"{", headers={"content-type": "application/json"})
        assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(third.headers["retry-after"]) >= 1
        assert places == []
        going_on.set()
        assert [(await answer).status_code for answer in running] == [200, 200]
        wrong = await client.post(CHAT, content=b"{", headers={"content-type": "application/json"})
        assert wrong.status_code == 400
        assert service.admission._entered.total() == 0


async def test_work_of_a_server_that_is_closed_is_not_begun():
    workers = Workers()
    assert await workers.run(SMALL + 1, len, "ab") == 2
    workers.close()
    with pytest.raises(RuntimeError):
        await workers.run(SMALL + 1, len, "ab")


@pytest.mark.parametrize("number", [1e-320, 1e-300])
@pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "repetition_penalty"])
async def test_a_parameter_that_underflows_is_refused(field, number):
    config = quiet(limits={"requests": {"repetition_penalty": {}}})
    async with served(config=config) as client:
        body = json.dumps(asking(**{field: number}))
        response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_settings")
    assert f"{field}={number}: should be" in error["message"]


async def test_a_rule_that_underflows_is_refused():
    config = quiet(limits={"requests": {"beta": {}}})
    async with served(config=config) as client:
        response = await client.post(CHAT, json=asking(stars={"beta": 1e-320}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stars")


async def test_the_decisions_of_a_choice_are_bounded_where_no_budget_is():
    config = quiet(limits={"max_reward_calls": 5, "requests": {"segment_tokens": {}}})
    async with served(guard([["x"]] * 20), config) as client:
        answer = (await client.post(CHAT, json=asking(stars={"segment_tokens": 1}))).json()
        assert answer["stars"][0]["stop_reason"] == "reward_budget"
        assert 0 < answer["stars"][0]["attempts"] <= 5
    with pytest.raises(ConfigurationError):
        quiet(limits={"max_reward_calls": 0})
    assert quiet(budget={"max_reward_calls": 3}, limits={"max_reward_calls": 5}).most.max_reward_calls == 3


def test_texts_that_nothing_goes_back_to_are_let_go(monkeypatch):
    kept = []
    accepted = RequestInFlight._accepted

    def noting(request, decision, chosen):
        accepted(request, decision, chosen)
        kept.append(sum(map(len, request._texts)))

    monkeypatch.setattr(RequestInFlight, "_accepted", noting)
    assert guard([["x"]] * 50).generate("Hi").text == "x" * 50
    assert kept == list(range(1, 51))


@given(st.recursive(st.none() | st.integers() | st.text('a,[{"\\', max_size=9), _within, max_leaves=20))
def test_values_are_counted_wherever_they_are(value):
    number = _values(value)
    body = json.dumps(value).encode()
    SizeLimits(max_values=number).check_values(body)
    if number > 1:
        with pytest.raises(Fault):
            SizeLimits(max_values=number - 1).check_values(body)
