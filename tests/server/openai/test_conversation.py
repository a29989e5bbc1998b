"""Conversations that began elsewhere: what others wrote in past turns never makes one unusable."""

from __future__ import annotations

import json

import pytest

from stars_guard.text.dialects import HERMES
from tests.support.server_client import CHAT, guard, served

USER = {"role": "user", "content": "hi"}


def called(arguments, **call):
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": function, **call}]}


RESULT = {"role": "tool", "tool_call_id": "a", "content": "error: bad arguments"}
TEXT = {"type": "text", "text": "ok"}

PASTS = {
    "a call that was cut off": [called('{"path": "/tmp/a", "text": "cut o'), RESULT],
    "a call in Python's words": [called("{'a': 1}"), RESULT],
    "null": [called("null"), RESULT],
    "no arguments": [called(None), RESULT],
    "blanks": [called("  "), RESULT],
    "a list": [called("[]"), RESULT],
    "an object": [called({"a": 1}), RESULT],
    "nested without end": [called("[" * 20_000), RESULT],
    "a call without an id": [called("{}", id=None), {"role": "tool", "content": "3"}],
    "a call without a result": [called("{}")],
    "a result without a call": [RESULT],
    "a custom call": [called(None, function=None, custom={"name": "f", "input": "ls"}), RESULT],
    "calls that are none": [
        {"role": "assistant", "content": "x", "tool_calls": [None, "f", {}, {"function": 5}]}
    ],
    "reasoning": [{"role": "assistant", "content": "x", "reasoning_content": "r", "reasoning": {"a": 1}}],
    "thinking": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}, TEXT]}],
    "a call among blocks": [
        {"role": "assistant", "content": [TEXT, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        RESULT,
    ],
    "a result among blocks": [{"role": "user", "content": [{"type": "tool_result", "content": [TEXT]}]}],
    "text of responses": [{"role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}],
    "a picture the assistant made": [{"role": "assistant", "content": [{"type": "image", "url": "u"}]}],
    "nothing": [{"role": "assistant", "content": None}, {"role": "assistant"}],
    "empty texts": [{"role": "user", "content": ""}, {"role": "assistant", "content": []}],
    "a number": [{"role": "tool", "tool_call_id": "a", "content": 5}],
    "texts in a list": [{"role": "user", "content": ["one", " two"]}],
    "a block alone": [{"role": "user", "content": TEXT}],
    "control characters": [{"role": "user", "content": "a\x00b\x1b[31m"}],
    "half a character": [{"role": "user", "content": "price \ud835 list"}],
}


async def posted(client, messages):
    # With escapes, as programs in JavaScript write half characters.
    body = json.dumps({"messages": messages})
    return await client.post(CHAT, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("past", PASTS.values(), ids=PASTS)
async def test_a_conversation_goes_on_after(past):
    llm = guard([["answered"]])
    async with served(llm) as client:
        response = await posted(client, [USER, *past, USER])
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "answered"
    assert llm.model.sessions[-1].prompt.messages[-1] == USER


async def read(*past):
    llm = guard([["answered"]])
    async with served(llm) as client:
        await posted(client, [USER, *past, USER])
    return llm.model.sessions[-1].prompt.messages[1:-1]


async def test_what_is_read_of_it():
    call, result = await read(*PASTS["a call without an id"])
    assert call["tool_calls"][0]["id"] == result["tool_call_id"] != ""
    assert result["name"] == "f"
    (call, _) = await read(*PASTS["a call that was cut off"])
    assert call["tool_calls"][0]["function"]["arguments"] == {"unread": '{"path": "/tmp/a", "text": "cut o'}
    (call, _) = await read(*PASTS["a call among blocks"])
    assert (call["content"], call["tool_calls"][0]["id"]) == ("ok", "a")
    (call, _) = await read(*PASTS["a custom call"])
    assert call["tool_calls"][0]["function"]["arguments"] == {"unread": "ls"}
    (turn,) = await read(*PASTS["a picture the assistant made"])
    assert turn["content"] == "[image]"
    (turn,) = await read(*PASTS["half a character"])
    assert turn["content"] == "price \ufffd list"
    (turn,) = await read(*PASTS["calls that are none"])
    assert turn == {"role": "assistant", "content": "x"}


@pytest.mark.parametrize("role", ["user", "system", "tool"])
async def test_a_picture_elsewhere_is_refused_by_name(role):
    async with served() as client:
        turn = {"role": role, "tool_call_id": "a", "content": [TEXT, {"type": "image_url", "image_url": {}}]}
        response = await client.post(CHAT, json={"messages": [USER, turn]})
        assert response.status_code == 400
        assert (
            response.json()["error"]["message"] == "messages[1]: only text can be read here, not 'image_url'"
        )
        turn["content"] = [{"type": "poison"}]
        response = await client.post(CHAT, json={"messages": [USER, turn]})
        assert response.json()["error"]["message"] == "messages[1]: only text can be read here, nothing else"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb"\ud835", "\ufffd"),
        (rb"\uD83D\uDE00", "\U0001f600"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud835", r"\ud835"),
        (rb"\n\ud835\u00e9", "\n\ufffdé"),
    ],
)
async def test_half_characters_in_json_are_replaced(sent, read):
    llm = guard([["answered"]])
    body = b'{"messages": [{"role": "user", "content": "x' + sent + b'"}]}'
    async with served(llm) as client:
        response = await client.post(CHAT, content=body, headers={"content-type": "application/json"})
        assert response.status_code == 200
        broken = b'{"messages": [{"role": "user", "content": "\\ud8"}]}'
        response = await client.post(CHAT, content=broken, headers={"content-type": "application/json"})
        assert response.status_code == 400
    assert llm.model.sessions[0].prompt.as_text() == "x" + read


async def test_what_the_server_answered_can_be_sent_back():
    tries = [[HERMES.call("weather", {"city": "Vienna"})]]
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with served(guard(tries)) as client:
        message = (await client.post(CHAT, json={"messages": [USER], "tools": [tool]})).json()["choices"][0][
            "message"
        ]
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "rain"}
        response = await client.post(CHAT, json={"messages": [USER, message, result], "tools": [tool]})
    assert response.status_code == 200
