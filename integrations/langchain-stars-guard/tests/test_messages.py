"""LangChain messages become the conversation that chat templates take."""

from __future__ import annotations

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from stars_guard import PromptError

from langchain_stars_guard import ChatStarsGuardedLLM
from langchain_stars_guard.messages import conversation

from .scripted import guard

CALL = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}


def test_every_kind_of_message():
    assert conversation(
        [
            SystemMessage("be kind"),
            HumanMessage("hi", name="ann"),
            AIMessage("hello"),
            ChatMessage("as critic", role="critic"),
            FunctionMessage("3", name="add"),
        ]
    ) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": "hello"},
        {"role": "critic", "content": "as critic"},
        {"role": "tool", "content": "3", "name": "add"},
    ]


def test_neighbours_of_one_role_become_one_but_tool_results_stay_apart():
    turns = conversation(
        [
            SystemMessage("a"),
            SystemMessage("b"),
            HumanMessage("c"),
            HumanMessage("d"),
            AIMessage("", tool_calls=[CALL]),
            AIMessage("e", tool_calls=[{**CALL, "id": "c2", "name": "sub"}]),
            ToolMessage("1", tool_call_id="c1"),
            ToolMessage("2", tool_call_id="c2"),
        ]
    )
    assert [(turn["role"], turn["content"]) for turn in turns] == [
        ("system", "a\n\nb"),
        ("user", "c\n\nd"),
        ("assistant", "e"),
        ("tool", "1"),
        ("tool", "2"),
    ]
    assert [call["id"] for call in turns[2]["tool_calls"]] == ["c1", "c2"]
    assert [turn["name"] for turn in turns[3:]] == ["add", "sub"]


def test_a_result_without_a_known_call_has_no_name():
    assert conversation([ToolMessage("3", tool_call_id="gone")]) == [
        {"role": "tool", "content": "3", "tool_call_id": "gone"}
    ]


def test_calls_carry_their_arguments_as_data():
    (turn,) = conversation([AIMessage("", tool_calls=[CALL])])
    assert turn["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    ]


def test_lists_become_text_and_calls_and_reasoning_in_them_are_left_to_their_own_fields():
    content = [
        "one ",
        {"type": "text", "text": "two ", "cache_control": {"type": "ephemeral"}},
        {"type": "reasoning", "reasoning": "hidden"},
        {"type": "thinking", "thinking": "hidden", "signature": "x"},
        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
        {"type": "text-plain", "text": "three", "mime_type": "text/plain"},
        {"type": "refusal", "refusal": " four"},
    ]
    (turn,) = conversation([AIMessage(content, tool_calls=[CALL])])
    assert turn["content"] == "one two three four"
    assert len(turn["tool_calls"]) == 1


def test_a_call_that_could_not_be_made_is_still_something_the_assistant_wrote():
    broken = {"name": "add", "args": '{"a": ', "id": "c1", "error": "cut off", "type": "invalid_tool_call"}
    (turn,) = conversation([AIMessage("so:", invalid_tool_calls=[broken])])
    assert turn == {"role": "assistant", "content": 'so:\n{"a": '}


T = {"type": "text", "text": "ok"}
ELSEWHERE = {
    "thinking (Anthropic)": [{"type": "thinking", "thinking": "x", "signature": "y"}, T],
    "reasoning_content (Bedrock)": [{"type": "reasoning_content", "reasoning_content": {"text": "t"}}, T],
    "cachePoint (Bedrock)": [T, {"cachePoint": {"type": "default"}}],
    "server_tool_use (Anthropic)": [{"type": "server_tool_use", "id": "1", "name": "search", "input": {}}, T],
    "server_tool_call (v1)": [{"type": "server_tool_call", "name": "x", "args": {}, "id": "1"}, T],
    "non_standard (v1)": [{"type": "non_standard", "value": {}}, T],
    "reference (Mistral)": [T, {"type": "reference", "reference_ids": [1]}],
    "executable_code (Gemini)": [{"type": "executable_code", "executable_code": "x"}, T],
    "output_text (Responses)": [{"type": "output_text", "text": "ok"}],
}


@pytest.mark.parametrize("content", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_history_of_another_provider_goes_on(content):
    model = ChatStarsGuardedLLM(guard=guard())
    assert model.invoke([HumanMessage("q"), AIMessage(content), HumanMessage("next")]).text == "Hello there."
    assert conversation([AIMessage(content)]) == [{"role": "assistant", "content": "ok"}]


def test_a_picture_that_an_assistant_made_is_named():
    made = AIMessage([T, {"type": "image_url", "image_url": {"url": "x"}}])
    assert conversation([made])[0]["content"] == "ok[image]"


def test_a_call_that_stands_in_the_content_alone_is_a_call():
    message = AIMessage([T, {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}])
    message.tool_calls = []
    (turn,) = conversation([message])
    assert turn["content"] == "ok"
    assert turn["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}


def test_calls_without_ids_get_some():
    call = {**CALL, "id": None}
    turn, result = conversation([AIMessage("", tool_calls=[call]), ToolMessage("3", tool_call_id="")])
    assert turn["tool_calls"][0]["id"] == result["tool_call_id"] != ""
    assert result["name"] == "add"


def test_half_a_character_is_replaced():
    core = guard()
    ChatStarsGuardedLLM(guard=core).invoke("price \ud835 list")
    assert core.model.sessions[0].prompt.as_text() == "price \ufffd list"


@pytest.mark.parametrize("kind", ["image", "image_url", "audio", "file", "video", "non_standard"])
def test_other_media_are_refused_by_name(kind):
    with pytest.raises(
        PromptError, match=f"message 1 holds a block of type '{kind}'; this model reads text only"
    ):
        conversation([HumanMessage("look"), HumanMessage([{"type": kind, "url": "x"}])])


def test_what_is_no_turn_is_refused():
    with pytest.raises(PromptError, match="message 0 is a RemoveMessage"):
        conversation([RemoveMessage(id="x")])


def test_the_model_gets_exactly_that():
    core = guard()
    ChatStarsGuardedLLM(guard=core).invoke([("system", "be kind"), ("human", "hi")])
    assert list(core.model.sessions[0].prompt.messages) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize("prompt", ["", [("human", " ")], []])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(PromptError, match="empty"):
        ChatStarsGuardedLLM(guard=guard()).invoke(prompt)
