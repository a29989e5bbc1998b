"""From LlamaIndex's messages and tools to the guard's."""

from __future__ import annotations

from typing import Any

import pytest
from guards import add, tools
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.llms.llm import ToolSelection
from stars_guard import ConfigurationError, PromptError

from llama_index.llms.stars_guard.messages import core_messages, core_tools, tool_choice, tool_schemas

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("chatbot", "assistant"),
        ("model", "assistant"),
        ("tool", "tool"),
        ("function", "tool"),
    ],
)
def test_roles(role: str, wanted: str) -> None:
    assert core_messages([ChatMessage(role=role, content="x")])[0]["role"] == wanted


def test_neighbours_of_one_role_become_one_message() -> None:
    texts = [
        ("system", "A"),
        ("system", "B"),
        ("user", "C"),
        ("user", "D"),
        ("assistant", "E"),
        ("user", "F"),
    ]
    merged = core_messages([ChatMessage(role=role, content=text) for role, text in texts])
    assert [(message["role"], message["content"]) for message in merged] == [
        ("system", "A\n\nB"),
        ("user", "C\n\nD"),
        ("assistant", "E"),
        ("user", "F"),
    ]


def test_merged_assistants_keep_all_their_calls() -> None:
    message = ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})]
    )
    merged = core_messages([message, ChatMessage(role="assistant", content="Wait."), message])
    assert merged == [{"role": "assistant", "content": "Wait.", "tool_calls": [CALL, CALL]}]


def test_tool_results_stay_apart_with_their_ids() -> None:
    results = [
        ChatMessage(role="tool", content=str(n), additional_kwargs={"tool_call_id": f"c{n}", "name": "add"})
        for n in range(2)
    ]
    assert core_messages(results) == [
        {"role": "tool", "content": "0", "tool_call_id": "c0", "name": "add"},
        {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "add"},
    ]
    bare = core_messages([ChatMessage(role="tool", content="x")])
    assert bare == [{"role": "tool", "content": "x", "tool_call_id": ""}]


@pytest.mark.parametrize(
    "message",
    [
        ChatMessage(
            role="assistant",
            blocks=[
                ThinkingBlock(content="Let me add."),
                TextBlock(text="Hm."),
                ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1}),
            ],
        ),
        ChatMessage(
            role="assistant",
            blocks=[
                TextBlock(text="Hm."),
                ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": 1}'),
            ],
        ),
        ChatMessage(
            role="assistant",
            content="Hm.",
            additional_kwargs={
                "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": '{"a": 1}'}}]
            },
        ),
        ChatMessage(
            role="assistant",
            content="Hm.",
            additional_kwargs={
                "tool_calls": [ToolSelection(tool_id="c1", tool_name="add", tool_kwargs={"a": 1})]
            },
        ),
    ],
    ids=["blocks", "arguments as text", "openai dicts", "selections"],
)
def test_calls_in_the_history(message: ChatMessage) -> None:
    assert core_messages([message]) == [{"role": "assistant", "content": "Hm.", "tool_calls": [CALL]}]


class LibraryCall(BaseModel):
    """A call as an object of OpenAI's library, of which only the form matters."""

    id: str = "c1"
    function: dict[str, str] = Field(default={"name": "add", "arguments": '{"a": 1}'})


def called(arguments: dict[str, Any], call_id: str = "c1") -> list[Any]:
    return [{"id": call_id, "type": "function", "function": {"name": "add", "arguments": arguments}}]


@pytest.mark.parametrize(
    ("calls", "wanted"),
    [
        (["add"], []),
        ([{"function": {}}], []),
        ([None, {"function": "add"}], []),
        (5, []),
        ([{"id": "c1", "function": {"name": "add", "arguments": "{"}}], called({"unread": "{"})),
        ([{"id": "c1", "function": {"name": "add", "arguments": "[]"}}], called({})),
        ([{"id": "c1", "function": {"name": "add"}}], called({})),
        ([LibraryCall()], called({"a": 1})),
    ],
)
def test_malformed_calls_in_the_history_are_taken_as_far_as_they_make_sense(calls: Any, wanted: Any) -> None:
    message = ChatMessage(role="assistant", content="Hm.", additional_kwargs={"tool_calls": calls})
    (turn,) = core_messages([message])
    assert turn["content"] == "Hm."
    assert turn.get("tool_calls", []) == wanted


def test_arguments_that_are_no_json_are_taken_as_text() -> None:
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs='{"a": ')
    (turn,) = core_messages([ChatMessage(role="assistant", blocks=[block])])
    assert turn["tool_calls"] == called({"unread": '{"a":'})


def test_a_result_without_an_id_is_that_of_the_call_before() -> None:
    call = ToolCallBlock(tool_call_id=None, tool_name="add", tool_kwargs={})
    turn, result = core_messages(
        [ChatMessage(role="assistant", blocks=[call]), ChatMessage(role="tool", content="3")]
    )
    assert turn["tool_calls"][0]["id"] == result["tool_call_id"] != ""
    assert result["name"] == "add"


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (ImageBlock(image=b"\x89PNG"), "Look:\n[image]"),
        (DocumentBlock(data=b"%PDF", title="x"), "Look:\n[document]"),
        (CachePoint(cache_control=CacheControl(type="ephemeral")), "Look:"),
        (ThinkingBlock(content="Hm."), "Look:"),
    ],
)
def test_what_is_no_text_in_a_past_turn_is_named_or_left_out(block: Any, text: str) -> None:
    message = ChatMessage(role="assistant", blocks=[TextBlock(text="Look:"), block])
    assert core_messages([message]) == [{"role": "assistant", "content": text}]


def test_cited_text_is_text_and_cache_points_are_nothing() -> None:
    blocks = [
        CitableBlock(title="T", source="S", content=[TextBlock(text="A")]),
        CitationBlock(title="T", source="S", cited_content=TextBlock(text="B"), additional_location_info={}),
        CachePoint(cache_control=CacheControl(type="ephemeral")),
        TextBlock(text="C"),
    ]
    assert core_messages([ChatMessage(role="user", blocks=blocks)])[0]["content"] == "A\nB\nC"


@pytest.mark.parametrize("block", [ImageBlock(image=b"\x89PNG"), DocumentBlock(data=b"%PDF", title="x")])
def test_what_is_not_text_is_an_error(block: Any) -> None:
    with pytest.raises(PromptError, match=f"holds {block.block_type}, and this model reads only text"):
        core_messages([ChatMessage(role="user", blocks=[TextBlock(text="Look:"), block])])


@pytest.mark.parametrize(
    ("choice", "required", "wanted"),
    [
        (None, False, "auto"),
        (None, True, "any"),
        ("auto", True, "auto"),
        ("required", False, "any"),
        ("any", False, "any"),
        ("none", False, "none"),
        ("add", False, "add"),
        ({"type": "function", "function": {"name": "add"}}, False, "add"),
        ({"type": "tool", "name": "add"}, False, "add"),
    ],
)
def test_tool_choice(choice: Any, required: bool, wanted: str) -> None:
    assert tool_choice(choice, required) == wanted


def test_tool_choice_without_a_name() -> None:
    with pytest.raises(ConfigurationError, match="names no tool"):
        tool_choice({"type": "function"}, False)


def test_tools_of_the_framework() -> None:
    (schema,) = tool_schemas(tools(add))
    assert schema["function"]["name"] == "add"
    assert set(schema["function"]["parameters"]["properties"]) == {"a", "b"}
    kwargs = {"tools": [schema], "tool_choice": "required", "allow_parallel_tool_calls": False, "seed": 1}
    made = core_tools(kwargs)
    assert made is not None
    assert (made.choice, made.parallel, made.names) == ("any", False, ["add"])
    assert kwargs == {"seed": 1}
    assert core_tools({"tools": [], "tool_choice": "auto"}) is None
