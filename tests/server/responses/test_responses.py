"""The Responses API: items in, items out, and numbered events that add up to them."""

from __future__ import annotations

import json

import pytest

from stars_guard.algorithm.openings import WriteRefusal
from stars_guard.algorithm.rules import Last
from stars_guard.text.dialects import HERMES
from tests.support.server_client import BAD, CannotJudge, Watcher, guard, named_events, quiet, served

PATH = "/v1/responses"
TOOL = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS = [HERMES.call("weather", {"city": city}) for city in (BAD, "Vienna")]
SPENT = {"max_reward_calls": 1}
SCRIPTS = {
    "text": ({}, [[f"{BAD} ", "one "], ["two "], ["three"]]),
    "reasoning": ({}, [["<think>Let me see.</think>"], ["Yes."]]),
    "call": ({"tools": [TOOL]}, [["Hm. "], CALLS]),
    "call alone": ({"tools": [TOOL]}, [CALLS]),
    "refusal": ({}, [["Well. "], [f"{BAD}!"]]),
    "refusal alone": ({}, [[f"{BAD}!"]]),
    "length": ({"stars": SPENT}, [["one "], ["two"]]),
    "nothing": ({"stop": ["x"]}, [["x"]]),
}


def asking(**fields):
    return {"input": "Hi", **fields}


async def posted(body, llm=None, config=None, **options):
    async with served(llm, config, **options) as client:
        return await client.post(PATH, json=body)


def comparable(response):
    """A response without what differs each time."""
    text = json.dumps({key: value for key, value in response.items() if key not in ("created_at", "stars")})
    number = response["id"].rpartition("_")[2]
    calls = [item["call_id"] for item in response["output"] if "call_id" in item]
    for place, varying in enumerate([number, *calls]):
        text = text.replace(varying, str(place))
    return json.loads(text)


def added_up(events):
    """The items that the events of a stream add up to."""
    items = {}
    for event in events:
        place, kind = event.get("output_index"), event["type"].removeprefix("response.")
        if kind == "output_item.added":
            items[place] = event["item"]
        elif kind == "content_part.added":
            assert event["content_index"] == len(items[place]["content"])
            items[place]["content"].append(event["part"])
        elif kind.endswith(".delta") and "content_index" in event:
            content = items[place]["content"][event["content_index"]]
            content["refusal" if content["type"] == "refusal" else "text"] += event["delta"]
        elif kind == "function_call_arguments.delta":
            items[place]["arguments"] += event["delta"]
        elif kind == "content_part.done":
            assert items[place]["content"][event["content_index"]] == event["part"]
        elif kind == "output_item.done":
            assert {**items[place], "status": event["item"]["status"]} == event["item"]
            items[place] = event["item"]
        if place is not None and "item_id" in event:
            assert event["item_id"] == items[place]["id"]
    return list(items.values())


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_events_of_a_stream_add_up_to_the_whole(name):
    fields, script = SCRIPTS[name]
    whole = (await posted(asking(**fields), guard(script, max_attempts=2))).json()
    streamed = await posted(asking(stream=True, **fields), guard(script, max_attempts=2))
    events = named_events(streamed.text)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{last['status']}"
    assert added_up(events) == last["output"]
    assert comparable(last) == comparable(whole)
    assert BAD not in streamed.text
    assert len(whole["stars"]) == len(last["stars"]) == 1


async def test_a_whole_response():
    response = await posted(asking(model="stars-guard", metadata={"a": "b"}, instructions="Be kind."))
    answer = response.json()
    assert answer["id"] == f"resp_{response.headers['x-request-id']}"
    assert (answer["object"], answer["status"], answer["error"]) == ("response", "completed", None)
    (message,) = answer["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [
        {"type": "output_text", "text": "one two three", "annotations": [], "logprobs": []}
    ]
    usage = answer["usage"]
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]
    assert (usage["output_tokens"], answer["metadata"]) == (13, {"a": "b"})
    assert (answer["store"], answer["instructions"]) == (False, "Be kind.")
    assert answer["guardrails"]["flagged"] is False


async def test_calls_are_items_of_their_own():
    answer = (await posted(asking(tools=[TOOL]), guard([CALLS]))).json()
    (call,) = answer["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"]) == {"city": "Vienna"}
    assert answer["status"] == "completed"


async def test_a_refusal_is_content_of_its_own_kind():
    llm = guard([["Well. "], [f"{BAD}!"]], max_attempts=2)
    answer = (await posted(asking(), llm)).json()
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
    text, refusal = answer["output"][0]["content"]
    assert (text["text"], refusal) == ("Well. ", {"type": "refusal", "refusal": llm.config.refusal_text})
    assert answer["guardrails"]["flaggedOutput"] is True


async def test_an_answer_that_was_cut_off_says_so():
    answer = (await posted(asking(stars=SPENT), guard([["one "], ["two"]]))).json()
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["output"][0]["status"] == "incomplete"


async def test_events_with_forced_text_say_so():
    llm = guard([["one "], [BAD]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    events = named_events((await posted(asking(stream=True), llm)).text)
    assert [event["delta"] for event in events if event.get("stars") == [{"forced": True}]] == [BAD]
    forced = guard([CALLS[:1]], max_attempts=2, exhaustion=Last(), floor=-9.0)
    events = named_events((await posted(asking(stream=True, tools=[TOOL]), forced)).text)
    assert [event["type"] for event in events if event.get("stars") == [{"forced": True}]] == [
        "response.function_call_arguments.delta"
    ]


async def test_a_conversation_of_items_is_read():
    seen = []

    def script(prompt):
        seen.append(prompt)
        return [["Fine."]]

    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Wet"}]},
        {"type": "function_call", "call_id": "c3", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c3", "output": ""},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    body = asking(input=items, instructions="Be kind.", tools=[TOOL], tool_choice="auto")
    assert (await posted(body, guard(script))).status_code == 200
    (prompt,) = seen
    turns = [(turn["role"], turn["content"]) for turn in prompt.messages]
    assert turns == [
        ("system", "Be kind."),
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Let me see."),
        ("tool", "Sunny"),
        ("tool", "Wet"),
        ("assistant", ""),
        ("tool", ""),
        ("assistant", "No."),
    ]
    assert [call["id"] for call in prompt.messages[3]["tool_calls"]] == ["c1", "c2"]
    assert prompt.messages[4]["name"] == "weather"
    assert prompt.tools.names == ["weather"]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot"}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "x", "tools": []},
        {"type": "custom_tool_call", "call_id": "c1", "name": "weather", "input": "Rome"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Sunny"},
        {"role": "assistant", "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": [{"type": "output_image"}, {"type": "output_text", "text": "So."}]},
    ],
)
async def test_a_conversation_that_began_elsewhere_goes_on(item):
    user = {"role": "user", "content": "Hi"}
    assert (await posted(asking(input=[user, item, user]))).status_code == 200


async def test_a_schema_and_a_forced_tool_reach_the_model():
    llm = guard([["{}"]])
    start, seen = llm.model.start, []
    llm.model.start = lambda prompt, sampling: (seen.append((prompt, sampling)), start(prompt, sampling))[1]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    async with served(llm) as client:
        assert (await client.post(PATH, json=asking(text=text))).status_code == 200
        choice = {"type": "function", "name": "weather"}
        await client.post(PATH, json=asking(tools=[TOOL], tool_choice=choice))
        await client.post(PATH, json=asking(text={"format": {"type": "text"}}))
    assert json.loads(seen[0][1].response_schema) == schema
    assert seen[1][0].tools.choice == "weather"
    assert seen[2][1].response_schema is None


UNSERVED = [
    ({"store": True}, "store"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"background": True}, "background"),
    ({"prompt": {"id": "x"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"max_tool_calls": 2}, "max_tool_calls"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format"),
    ({"include": ["message.output_text.logprobs"]}, "include"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"n": 2}, "n"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 5}, "temperature"),
    ({"input": 5}, "input"),
    ({"input": []}, "input"),
    ({"input": " "}, "input"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": ["input_text"], "text": "x"}]}]}, "input"),
    ({"input": [{"type": ["message"], "role": "user", "content": "x"}]}, "input"),
    ({"input": [{"role": "somebody", "content": "x"}]}, "input.0.role"),
    ({"input": [{"type": "function_call", "name": "x", "arguments": "{"}]}, "input"),
]


@pytest.mark.parametrize(("fields", "param"), UNSERVED)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_not_served_is_refused_by_name(fields, param, stream):
    response = await posted(asking(stream=stream, **fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert param in error["message"] or "the prompt is empty" in error["message"]


HARMLESS = {
    "store": False,
    "background": False,
    "truncation": "disabled",
    "user": "me",
    "service_tier": "auto",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": None, "summary": "auto"},
    "text": {"verbosity": "medium"},
    "stream_options": {"include_obfuscation": False},
    "a_field_of_tomorrow": 1,
}


async def test_what_cannot_change_the_answer_is_ignored():
    assert (await posted(asking(**HARMLESS))).status_code == 200


async def test_a_failure_has_a_status_or_else_an_event():
    watcher = Watcher()
    async with served(guard([["one "], ["two"]], CannotJudge("two")), observers=[watcher]) as client:
        response = await client.post(PATH, json=asking(stream=True))
        *_, last = named_events(response.text)
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"]["code"] == "scoring_error"
        whole = await client.post(PATH, json=asking())
        assert (whole.status_code, whole.json()["error"]["code"]) == (503, "scoring_error")
    async with served(guard([["two"]], CannotJudge("two"))) as client:
        assert (await client.post(PATH, json=asking(stream=True))).status_code == 503
    assert [exchange.endpoint for exchange in watcher.ended_] == ["responses"] * 2
    assert {exchange.outcome for exchange in watcher.ended_} == {"scoring_error"}


async def test_the_response_has_what_a_request_may_have_of_the_guard():
    config = quiet(traces={"enabled": True})
    body = asking(stars={"trace": True, "max_attempts": 9}, seed=5, max_output_tokens=10**6)
    response = await posted(body, config=config)
    (stars,) = response.json()["stars"]
    assert (stars["seed"], stars["max_tokens"]) == (5, {"requested": 10**6, "granted": 2048})
    assert stars["trace"]["segments"]
    assert response.headers["x-stars-max-tokens"] == "2048"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", ["", "Well. "])
async def test_a_refusal_that_the_model_wrote_is_one_too(stream, before):
    script = [*([[before]] if before else []), [BAD], [" it hurts."], [" Ask me more."]]
    llm = guard(script, max_attempts=1, exhaustion=WriteRefusal(openings=("No, since",)))
    response = await posted(asking(stream=stream), llm)
    answer = named_events(response.text)[-1]["response"] if stream else response.json()
    content = answer["output"][0]["content"]
    said = [(part["type"], part["refusal" if part["type"] == "refusal" else "text"]) for part in content]
    assert said[-1] == ("refusal", "No, since it hurts. Ask me more.")
    assert said[:-1] == ([("output_text", before)] if before else [])
    assert answer["incomplete_details"] == {"reason": "content_filter"}
    assert answer["guardrails"]["flaggedOutput"] is True
