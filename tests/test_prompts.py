"""Prompts as users pass them, and tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import PromptError
from stars_guard.prompts import Prompt, Tools

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


def test_a_string_is_one_user_message():
    prompt = Prompt.of("Hello")
    assert prompt.as_messages() == [{"role": "user", "content": "Hello"}]
    assert prompt.as_text() == "Hello"
    assert prompt.text is None


def test_a_list_is_a_conversation():
    prompt = Prompt.of(CHAT)
    assert prompt.as_messages() == CHAT
    assert prompt.as_text() == "Be kind.\nHello"


def test_a_prompt_passes_through():
    prompt = Prompt.raw("Once upon a time")
    assert Prompt.of(prompt) is prompt


def test_a_raw_text_has_no_messages_but_can_be_read_as_one():
    prompt = Prompt.raw("Once upon a time")
    assert prompt.text == prompt.as_text() == "Once upon a time"
    assert prompt.messages == ()
    assert prompt.as_messages() == [{"role": "user", "content": "Once upon a time"}]


def test_messages_are_copied():
    messages = [dict(message) for message in CHAT]
    prompt = Prompt.of(messages)
    messages[1]["content"] = "changed"
    prompt.as_messages().clear()
    assert prompt.as_messages() == CHAT


def test_unknown_keys_of_a_message_are_left_out():
    assert Prompt.of([{**CHAT[1], "name": "Ann"}]).as_messages() == [CHAT[1]]


@pytest.mark.parametrize("empty", ["", " \n\t", [], [{"role": "user", "content": "  "}]], ids=repr)
def test_an_empty_prompt_is_refused(empty):
    with pytest.raises(PromptError, match="empty"):
        Prompt.of(empty)


def test_an_empty_raw_prompt_is_refused():
    with pytest.raises(PromptError, match="empty"):
        Prompt.raw("")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("hello", "str"),
        (None, "NoneType"),
        ({}, "dict"),
        ({"role": "user"}, "dict"),
        ({"content": "hello"}, "dict"),
        ({"role": 1, "content": "hello"}, "dict"),
        ({"role": "user", "content": None}, "dict"),
        ({"role": "user", "content": ["hello"]}, "dict"),
        ((), "tuple"),
    ],
    ids=repr,
)
def test_a_malformed_message_is_refused_without_showing_it(message, kind):
    with pytest.raises(PromptError, match=f"got {kind}$"):
        Prompt.of([CHAT[0], message])


@given(st.text(), st.text())
def test_only_content_matters_for_emptiness(role, content):
    prompt = [{"role": role, "content": content}]
    if content.strip():
        assert Prompt.of(prompt).as_text() == content
    else:
        with pytest.raises(PromptError):
            Prompt.of(prompt)


def test_a_prompt_is_a_text_or_a_list():
    with pytest.raises(PromptError, match="got int"):
        Prompt.of(5)
    with pytest.raises(PromptError, match="empty"):
        Prompt.of(Prompt())


# --- tools and calls -------------------------------------------------------------------------------------

ADD = {"type": "function", "function": {"name": "add"}}
SUB = {"type": "function", "function": {"name": "sub"}}
CALLED = {"id": "a", "type": "function", "function": {"name": "add", "arguments": {"a": "ü"}}}


@pytest.mark.parametrize(
    ("schemas", "choice", "message"),
    [
        ((), "auto", "there is none in them"),
        (({"name": "add"},), "auto", "a tool must look like"),
        ((ADD, ADD), "auto", "two tools have the same name; give each"),
        ((ADD, SUB), "mul", "the tool choice is unknown; use auto, any, none, or the name of one of 2 tools"),
    ],
)
def test_tools_that_cannot_be_offered(schemas, choice, message):
    with pytest.raises(PromptError, match=message):
        Tools(schemas, choice=choice)


@pytest.mark.parametrize(
    ("choice", "forced"), [("auto", []), ("none", []), ("any", ["add", "sub"]), ("sub", ["sub"])]
)
def test_a_choice_forces_calls(choice, forced):
    assert [one["name"] for one in Tools((ADD, SUB), choice=choice).forced] == forced


def test_a_conversation_with_calls_keeps_them_and_says_them_to_rewards():
    asked = {"role": "user", "content": "Add."}
    called = {"role": "assistant", "content": "", "tool_calls": [CALLED]}
    result = {"role": "tool", "content": "3", "tool_call_id": "a", "name": "add", "other": 1}
    prompt = Prompt.of([asked, called, result], Tools((ADD,)))
    assert prompt.messages[1] == called
    assert prompt.messages[2] == {key: value for key, value in result.items() if key != "other"}
    assert prompt.as_text() == 'Add.\nadd {"a": "ü"}\n3'
    spoken = Prompt.of([asked, {**called, "content": "Sure."}]).as_messages()[1]
    assert spoken == {"role": "assistant", "content": 'Sure.\nadd {"a": "ü"}'}


@pytest.mark.parametrize(
    "call", [{}, {"function": {"name": "a"}}, {"function": {"name": 1, "arguments": {}}}, 5]
)
def test_a_malformed_call_in_a_conversation(call):
    with pytest.raises(PromptError, match="a tool call in a message must look like"):
        Prompt.of(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
        )


def test_tools_are_kept_or_added_when_a_prompt_is_given_again():
    prompt = Prompt.of("Add.", Tools((ADD,)))
    assert Prompt.of(prompt) == prompt
    assert Prompt.of(prompt, Tools((SUB,))).tools == Tools((SUB,))


def test_a_raw_prompt_takes_no_tools():
    with pytest.raises(PromptError, match="takes no tools"):
        Prompt.of(Prompt.raw("x"), Tools((ADD,)))


# --- half characters -------------------------------------------------------------------------------------

HALF, PAIR = "price \ud835 list", "smile \ud83d\ude00 \ude00"


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert Prompt.of(HALF).as_text() == Prompt.raw(HALF).text == "price \ufffd list"
    assert Prompt.of(PAIR).as_text() == "smile \U0001f600 \ufffd"
    assert Prompt.of(Prompt(text=HALF)).text == "price \ufffd list"
    assert Prompt.of(Prompt(messages=({"role": "user", "content": HALF},))).as_text() == "price \ufffd list"


def test_so_it_does_in_calls_names_and_tools():
    call = {
        "id": "\ud835",
        "type": "function",
        "function": {"name": "\ud835", "arguments": {"\ud835": [HALF]}},
    }
    turns = [
        {"role": "\ud835", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "\ud835", "name": "\ud835"},
    ]
    tool = {"type": "function", "function": {"name": "add", "description": HALF, "required": ("a", 1, None)}}
    prompt = Prompt.of(turns, Tools((tool,)))
    repr((prompt.messages, prompt.tools)).encode()
    assert prompt.messages[1]["tool_calls"][0]["function"]["arguments"] == {"\ufffd": ["price \ufffd list"]}
    assert prompt.tools.schemas[0]["function"]["required"] == ("a", 1, None)


def test_whole_texts_are_left_alone():
    tools = Tools((ADD,))
    prompt = Prompt.of([{"role": "user", "content": "Grüße \U0001f600"}], tools)
    assert prompt.as_text() == "Grüße \U0001f600"
    assert prompt.tools is tools
