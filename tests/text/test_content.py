"""Contents and calls of messages, in the forms of other providers."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import PromptError
from stars_guard.text.content import (
    UnreadableBlockError,
    block_calls,
    call_arguments,
    content_text,
    linked_turns,
    past_tool_call,
)

TEXT = {"type": "text", "text": "ok"}

FOREIGN = {
    "thinking (Anthropic)": {"type": "thinking", "thinking": "x", "signature": "y"},
    "redacted thinking (Anthropic)": {"type": "redacted_thinking", "data": "x"},
    "server tool (Anthropic)": {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}},
    "its result": {"type": "web_search_tool_result", "tool_use_id": "1", "content": [{"url": "u"}]},
    "reasoning (Responses)": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
    "reasoning (Bedrock)": {"type": "reasoning_content", "reasoning_content": {"text": "t"}},
    "reasoning without a type (Bedrock)": {"reasoningContent": {"reasoningText": {"text": "t"}}},
    "cache point (Bedrock)": {"cachePoint": {"type": "default"}},
    "thought (Gemini)": {"text": "a thought", "thought": True},
    "code (Gemini)": {"type": "executable_code", "executable_code": "x"},
    "call without a type (Gemini)": {"functionCall": {"name": "f", "args": {}}},
    "reference (Mistral)": {"type": "reference", "reference_ids": [1]},
    "non-standard (LangChain)": {"type": "non_standard", "value": {}},
    "a type that is no text": {"type": 5},
    "no field at all": {},
    "text that is none": {"type": "text", "text": {"value": 5}},
}


@pytest.mark.parametrize("block", FOREIGN.values(), ids=FOREIGN)
def test_what_other_providers_note_is_left_out_of_a_past_turn(block):
    assert content_text([block, TEXT, "!"], past=True) == "ok!"


TEXTS = {
    "text": TEXT,
    "responses": {"type": "output_text", "text": "ok", "annotations": []},
    "input of responses": {"type": "input_text", "text": "ok"},
    "langchain": {"type": "text-plain", "text": "ok", "mime_type": "text/plain"},
    "refusal": {"type": "refusal", "refusal": "ok"},
    "without a type": {"text": "ok"},
    "tool result (Anthropic)": {"type": "tool_result", "tool_use_id": "1", "content": [TEXT]},
    "search result (Anthropic)": {"type": "search_result", "source": "u", "title": "t", "content": [TEXT]},
    "document (Anthropic)": {"type": "document", "source": {"type": "text", "data": "ok"}},
    "document of blocks": {"type": "document", "source": {"type": "content", "content": [TEXT]}},
}


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("block", TEXTS.values(), ids=TEXTS)
def test_text_is_text_wherever_it_stands(block, past):
    assert content_text([block], past=past) == content_text(block, past=past) == "ok"


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, ""), ("", ""), (5, "5"), (2.5, "2.5"), (True, "true"), ([], ""), ([None, 5, ["a"]], "5a")],
)
def test_contents_that_are_no_blocks(content, text):
    assert content_text(content) == text


MEDIA = {
    "image": {"type": "image_url", "image_url": {"url": "u"}},
    "image of responses": {"type": "input_image", "image_url": "u"},
    "image (Anthropic)": {"type": "image", "source": {"type": "base64", "data": "x"}},
    "generated": {"type": "image_generation_call", "result": "x"},
    "audio": {"type": "input_audio", "input_audio": {}},
    "document": {"type": "document", "source": {"type": "base64", "data": "x"}},
    "bare document": {"type": "document"},
    "image without a type (Bedrock)": {"image": {"format": "png"}},
    "file without a type (Gemini)": {"inlineData": {"mimeType": "image/png"}},
}


@pytest.mark.parametrize("block", MEDIA.values(), ids=MEDIA)
def test_a_picture_is_named_in_a_past_turn_and_refused_elsewhere(block):
    said = content_text([TEXT, block], past=True)
    assert said in ("ok[image]", "ok[audio]", "ok[document]", "ok[file]")
    with pytest.raises(UnreadableBlockError, match=r"^message 3 holds a block of type '\w+'; this") as caught:
        content_text([TEXT, block], where="message 3")
    assert caught.value.kind
    assert isinstance(caught.value, PromptError)


def test_what_is_unknown_is_refused_where_it_may_be_part_of_a_question():
    for block in ({"type": "poison"}, {"poison": 1}, {"type": "reference"}):
        with pytest.raises(
            UnreadableBlockError, match=r"^a message holds a block that is no text;"
        ) as caught:
            content_text([block])
        assert caught.value.kind is None
    with pytest.raises(UnreadableBlockError, match="of type 'non_standard'"):
        content_text([{"type": "non_standard", "value": {}}])


def test_a_refusal_beside_its_own_words_is_said_once():
    refusal = {"type": "refusal", "refusal": "No."}
    assert content_text(["Well, No.", refusal]) == "Well, No."
    assert content_text(["Well, ", refusal]) == "Well, No."


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ({"a": 1}, {"a": 1}),
        ({1: 2}, {"1": 2}),
        ('{"a": 1}', {"a": 1}),
        (json.dumps('{"a": 1}'), {"a": 1}),
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ("[]", {}),
        ([], {}),
        ('{"path": "/tmp/a", "text": "cut o', {"unread": '{"path": "/tmp/a", "text": "cut o'}),
        ("{'a': 1}", {"unread": "{'a': 1}"}),
        ('{"a": NaN}', {"unread": '{"a": NaN}'}),
        ("[1]", {"unread": "[1]"}),
        ("5", {"unread": "5"}),
        (5, {"unread": "5"}),
        ("a \ud835", {"unread": "a \ud835"}),
        ('{"a": "\ud835"}', {"a": "\ufffd"}),
        ("[" * 20_000, {"unread": "[" * 20_000}),
        ("9" * 5000, {"unread": "9" * 5000}),
    ],
)
def test_arguments_of_a_past_call_are_read_as_far_as_they_can_be(arguments, read):
    assert call_arguments(arguments) == read


def test_a_past_call_may_lack_anything():
    function = {"name": "unread", "arguments": {}}
    assert past_tool_call(None, None, None) == {"id": "", "type": "function", "function": function}


ADD = past_tool_call("c1", "add", {"a": 1})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
        {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}},
        {"type": "tool_call", "id": "c1", "name": "add", "args": {"a": 1}},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}},
    ],
    ids=["Anthropic", "Bedrock", "LangChain", "Responses", "Gemini"],
)
def test_calls_among_blocks(block):
    assert block_calls([TEXT, "x", block]) == block_calls(block) == [ADD]


def test_there_are_no_calls_in_other_contents():
    assert block_calls("tool_use") == block_calls(None) == block_calls([TEXT]) == []


def test_calls_and_results_without_ids_find_each_other():
    def calling(*calls):
        return {"role": "assistant", "content": "", "tool_calls": list(calls)}

    nameless, other = past_tool_call("", "add", {}), past_tool_call("x", "sub", {})
    result = {"role": "tool", "content": "3"}
    turns = linked_turns(
        [
            {"role": "user", "content": "q"},
            result,
            calling(nameless, other),
            {**result, "tool_call_id": "x"},
            {**result, "tool_call_id": ""},
            result,
            calling(nameless, nameless),
            {**result, "name": "mine"},
            result,
        ]
    )
    first, second = turns[2], turns[6]
    ids = [call["id"] for call in first["tool_calls"] + second["tool_calls"]]
    assert len(set(ids)) == 4
    assert all(len(made) == 9 and made.isalnum() for made in ids if made != "x")
    assert turns[1] == turns[5] == result
    assert turns[3] == {**result, "tool_call_id": "x"}
    assert turns[4] == {**result, "tool_call_id": ids[0], "name": "add"}
    assert turns[7] == {**result, "tool_call_id": ids[2], "name": "mine"}
    assert turns[8] == {**result, "tool_call_id": ids[3], "name": "add"}
    assert nameless["id"] == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*TEXT, "name", "input", "content", "image", "source", "toolUse"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_a_past_turn_is_taken_whatever_it_holds(content):
    assert isinstance(content_text(content, past=True), str)
    for call in block_calls(content):
        assert isinstance(call["function"]["name"], str)
        assert isinstance(call["function"]["arguments"], dict)
    assert isinstance(call_arguments(content), dict)
