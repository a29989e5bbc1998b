"""Anthropic's API: messages of blocks in and out, and events that add up to them."""

from __future__ import annotations

import json

import pytest

from stars_guard.algorithm.rules import Last
from stars_guard.server.entry.keys import hash_key
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.text.dialects import HERMES
from tests.support.guards import guarded, hard
from tests.support.server_client import BAD, CannotJudge, Watcher, guard, named_events, quiet, served

PATH = "/v1/messages"
COUNT = f"{PATH}/count_tokens"
KEY = "sk-0123456789abcdef"
TOOL = {
    "name": "weather",
    "description": "What it is like.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS = [HERMES.call("weather", {"city": city}) for city in (BAD, "Vienna")]
SCRIPTS = {
    "text": ({}, [[f"{BAD} ", "one "], ["two "], ["three"]]),
    "thinking": ({}, [["<think>Let me see.</think>"], ["Yes."]]),
    "call": ({"tools": [TOOL]}, [["Hm. "], CALLS]),
    "calls alone": ({"tools": [TOOL]}, [CALLS, [CALLS[1]]]),
    "refusal": ({}, [["Well. "], [f"{BAD}!"]]),
    "length": ({"stars": {"max_reward_calls": 1}}, [["one "], ["two"]]),
    "stopped": ({"stop_sequences": ["x"]}, [["yes x"]]),
    "nothing": ({"stop_sequences": ["x"]}, [["x"]]),
}


def asking(text="Hi", **fields):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 200, **fields}


async def posted(body, llm=None, config=None, path=PATH, **options):
    async with served(llm, config, **options) as client:
        return await client.post(path, json=body)


def comparable(message):
    """A message without what differs each time."""
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    assert all(call.pop("id") for call in calls)
    return {key: value for key, value in message.items() if key not in ("id", "stars")}


def added_up(events):
    """The message that the events of a stream add up to."""
    message, written = events[0]["message"], {}
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
        elif event["type"] == "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                written[event["index"]] = written.get(event["index"], "") + delta["partial_json"]
            else:
                kind = delta["type"].removesuffix("_delta")
                block[kind] += delta[kind]
        elif event["type"] == "message_delta":
            message |= {"usage": event["usage"], **event["delta"]}
            message |= {name: event[name] for name in ("guardrails", "stars")}
    for index, arguments in written.items():
        message["content"][index]["input"] = json.loads(arguments)
    return message


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_events_of_a_stream_add_up_to_the_whole(name):
    fields, script = SCRIPTS[name]
    whole = (await posted(asking(**fields), guard(script, max_attempts=2))).json()
    streamed = await posted(asking(stream=True, **fields), guard(script, max_attempts=2))
    events = named_events(streamed.text)
    opened = [event["index"] for event in events if event["type"] == "content_block_start"]
    closed = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert opened == closed == list(range(len(whole["content"])))
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    assert comparable(added_up(events)) == comparable(whole)
    assert BAD not in streamed.text


async def test_a_whole_message():
    response = await posted(asking(model="stars-guard", metadata={"user_id": "me"}))
    message = response.json()
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "stars-guard")
    assert message["id"] == f"msg_{response.headers['x-request-id']}"
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert message["content"] == [{"type": "text", "text": "one two three"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (1, 13)
    assert message["guardrails"]["flagged"] is False


ENDS = [
    ("call", "tool_use", None),
    ("refusal", "refusal", None),
    ("length", "max_tokens", None),
    ("stopped", "stop_sequence", "x"),
]


@pytest.mark.parametrize(("name", "reason", "sequence"), ENDS)
async def test_a_message_says_why_it_ended(name, reason, sequence):
    fields, script = SCRIPTS[name]
    message = (await posted(asking(**fields), guard(script, max_attempts=2))).json()
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


async def test_which_of_several_strings_it_was_is_not_guessed():
    message = (await posted(asking(stop_sequences=["x", "y"]), guard([["yes x"]]))).json()
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", None)


async def test_events_with_forced_text_say_so():
    llm = guard([["one "], [BAD]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    events = named_events((await posted(asking(stream=True), llm)).text)
    assert [event["delta"]["text"] for event in events if event.get("stars") == [{"forced": True}]] == [BAD]


@pytest.mark.parametrize(
    "blocks",
    [
        [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}],
        [{"type": "web_search_tool_result", "tool_use_id": "s", "content": []}],
        [{"type": "mcp_tool_use", "id": "m", "name": "weather", "server_name": "x", "input": {}}],
        [{"type": "image", "source": {}}, {"type": "text", "text": "There."}],
        [{"type": "output_text", "text": "There."}],
    ],
)
async def test_a_conversation_that_began_elsewhere_goes_on(blocks):
    user = {"role": "user", "content": "Hi"}
    body = asking(messages=[user, {"role": "assistant", "content": blocks}, user])
    assert (await posted(body)).status_code == 200


async def test_a_document_of_text_is_read():
    source = {"type": "text", "media_type": "text/plain", "data": "The sun."}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    assert (await posted(asking(messages=messages))).status_code == 200


async def test_a_conversation_of_blocks_is_read():
    seen = []

    def script(prompt):
        seen.append(prompt)
        return [["Fine."]]

    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "Sunny"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "Wet"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
        {"role": "assistant", "content": "Nice."},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c2", "is_error": True}]},
    ]
    body = asking(messages=messages, system=[{"type": "text", "text": "Be kind."}], tools=[TOOL])
    assert (await posted(body, guard(script))).status_code == 200
    (prompt,) = seen
    assert [(turn["role"], turn["content"]) for turn in prompt.messages] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Let me see."),
        ("tool", "Sunny"),
        ("tool", "Wet"),
        ("user", "And now?"),
        ("assistant", "Nice."),
        ("tool", ""),
    ]
    assert [call["function"]["arguments"] for call in prompt.messages[2]["tool_calls"]] == [
        {"city": "Rome"},
        {},
    ]
    assert prompt.tools.schemas[0]["function"]["parameters"] == TOOL["input_schema"]


CHOICES = [
    ({"type": "auto"}, "auto", True),
    ({"type": "any"}, "any", True),
    ({"type": "none"}, "none", True),
    ({"type": "tool", "name": "weather", "disable_parallel_tool_use": True}, "weather", False),
]


@pytest.mark.parametrize(("choice", "means", "parallel"), CHOICES)
async def test_the_choice_of_a_tool_reaches_the_model(choice, means, parallel):
    seen = []

    def script(prompt):
        seen.append(prompt.tools)
        return [["Fine."]]

    assert (await posted(asking(tools=[TOOL], tool_choice=choice), guard(script))).status_code == 200
    assert [(tools.choice, tools.parallel) for tools in seen] == [(means, parallel)]


async def test_a_schema_reaches_the_model():
    llm = guard([["{}"]])
    start, seen = llm.model.start, []
    llm.model.start = lambda prompt, sampling: (seen.append(sampling), start(prompt, sampling))[1]
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert (await posted(asking(output_config=wanted), llm)).status_code == 200
    assert json.loads(seen[0].response_schema) == {"type": "object"}


UNSERVED = [
    ({"tools": [TOOL], "tool_choice": {"type": ["auto"]}}, "tool_choice"),
    ({"max_tokens": None}, "max_tokens"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "sometimes"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tools"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({"output_config": {"effort": "high"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "regex"}}}, "output_config.format"),
    ({"mcp_servers": [{}]}, "mcp_servers"),
    ({"container": "x"}, "container"),
    ({"stop": ["x"]}, "stop"),
    ({"stop_sequences": [""]}, "stop_sequences.0"),
    ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"system": [{"type": "image"}]}, "system"),
    ({"system": 5}, "system"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [5]}]}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages"),
    ({"temperature": 5}, "temperature"),
]


@pytest.mark.parametrize(("fields", "param"), UNSERVED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_served_is_refused_by_name(fields, param, stream):
    response = await posted(asking(stream=stream, **fields))
    assert response.status_code == 400
    error = response.json()
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
    assert error["error"]["param"] == param
    message = error["error"]["message"]
    assert param in message or "the prompt is empty" in message
    assert error["request_id"] == response.headers["request-id"]


async def test_a_client_that_wants_its_conversation_kept_is_told_to_send_all_of_it():
    response = await posted(asking(thread={"type": "create"}))
    assert response.status_code == 400
    # The words by which the client's SDK knows that it can do without.
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    assert response.json()["error"]["details"] == details
    assert (await posted(asking(thread=None))).status_code == 200


async def test_what_cannot_change_the_answer_is_ignored():
    fields = {
        "thinking": {"type": "disabled"},
        "service_tier": "auto",
        "mcp_servers": [],
        "container": None,
        "output_config": {},
        "system": "",
        "a_field_of_tomorrow": 1,
    }
    assert (await posted(asking(**fields))).status_code == 200


async def test_a_key_may_come_in_anthropics_header():
    config = quiet(keys=[{"name": "one", "sha256": hash_key(KEY)}])
    async with served(config=config) as client:
        right = await client.post(
            PATH, json=asking(), headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"}
        )
        other = await client.get("/v1/models", headers={"x-api-key": KEY})
        bearer = await client.post(PATH, json=asking(), headers={"Authorization": f"Bearer {KEY}"})
        assert [answer.status_code for answer in (right, other, bearer)] == [200, 200, 200]
        wrong = await client.post(PATH, json=asking(), headers={"x-api-key": "sk"})
        both = await client.post(
            PATH, json=asking(), headers={"x-api-key": KEY, "Authorization": "Bearer sk"}
        )
        none = await client.post(PATH, json=asking())
        assert [answer.status_code for answer in (wrong, both, none)] == [401, 401, 401]
        assert none.json()["error"]["type"] == "authentication_error"
        openai = await client.post("/v1/chat/completions", json=asking())
        assert openai.json()["error"]["code"] == "invalid_api_key"


async def test_failures_are_in_anthropics_form_wherever_they_come_from():
    async with served(config=quiet(limits={"max_body_bytes": 500})) as client:
        assert (await client.get(PATH)).json()["error"]["type"] == "invalid_request_error"
        missing = await client.post(PATH, json=asking(model="claude"))
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
        long = await client.post(PATH, json=asking("x" * 900))
        assert (long.status_code, long.json()["error"]["type"]) == (413, "request_too_large")
        admission = client._transport.app.state.service.admission
        admission.turn_away()
        gone = await client.post(PATH, json=asking())
        assert (gone.status_code, gone.json()["error"]["type"]) == (503, "overloaded_error")


async def test_a_failure_in_a_stream_is_an_event():
    watcher = Watcher()
    async with served(guard([["one "], ["two"]], CannotJudge("two")), observers=[watcher]) as client:
        response = await client.post(PATH, json=asking(stream=True))
        *_, last = named_events(response.text)
        assert (last["type"], last["error"]["type"]) == ("error", "api_error")
        assert last["error"]["code"] == "scoring_error"
        assert last["request_id"] == response.headers["request-id"]
    assert [exchange.endpoint for exchange in watcher.ended_] == ["messages"]


class Counts(ScriptedModel):
    """A scripted model that counts: a token is a character of the conversation."""

    context_window = 100

    def prompt_tokens(self, prompt):
        return len(prompt.as_text())


async def test_tokens_are_counted_by_the_model():
    watcher = Watcher()
    llm = guarded(Counts([["x"]]), KeywordReward([]), hard())
    async with served(llm, observers=[watcher]) as client:
        body = {"messages": [{"role": "user", "content": "Hello"}], "system": "Be"}
        assert (await client.post(COUNT, json=body)).json() == {"input_tokens": 8}
        assert (await client.post(COUNT, json={"messages": []})).status_code == 400
    assert [exchange.endpoint for exchange in watcher.ended_] == ["messages.count_tokens"] * 2
    unknown = await posted(body, path=COUNT)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "tokens_not_counted")
