"""Turns, tool calls, tool choices and response formats, in the forms that frameworks pass."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError, Message, ToolCall
from stars_guard.adapters import (
    merged_turns,
    offered_tools,
    openai_tool_call,
    past_tool_call,
    requested_schema,
    tool_choice,
)

ADD = {"type": "function", "function": {"name": "add", "parameters": {}}}


def turn(role, content, *calls):
    message = Message(role=role, content=content)
    return {**message, "tool_calls": list(calls)} if calls else message


def test_neighbours_of_one_role_become_one_turn():
    call, other = past_tool_call("c1", "add", {}), past_tool_call("c2", "add", "")
    turns = [
        turn("user", "One."),
        turn("user", "Two."),
        turn("assistant", "", call),
        turn("assistant", "Hm.", other),
        turn("tool", "3"),
        turn("tool", "4"),
        turn("critic", "No."),
        turn("critic", "No!"),
    ]
    results = [
        {**turn("tool", "3"), "tool_call_id": "c1", "name": "add"},
        {**turn("tool", "4"), "tool_call_id": "c2", "name": "add"},
    ]
    merged = [turn("user", "One.\n\nTwo."), turn("assistant", "Hm.", call, other), *results, *turns[6:]]
    assert merged_turns(turns) == merged


def test_a_past_call_is_an_object_or_its_text():
    wanted = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    assert past_tool_call("c1", "add", {"a": 1}) == past_tool_call("c1", "add", '{"a": 1}') == wanted
    assert past_tool_call(None, "add", {})["id"] == ""


def test_a_call_in_openais_form():
    function = {"name": "add", "arguments": '{"a": "é"}'}
    wanted = {"id": "c1", "type": "function", "function": function}
    assert openai_tool_call(ToolCall("c1", "add", {"a": "é"})) == wanted


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("required", "any"),
        (True, "any"),
        (False, "none"),
        ("add", "add"),
        ({"name": "add"}, "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
    ],
)
def test_forms_of_a_tool_choice(choice, name):
    assert tool_choice(choice) == name


@pytest.mark.parametrize("choice", [3, {}, {"function": {"name": 3}}])
def test_other_forms_of_a_tool_choice_are_refused(choice):
    with pytest.raises(ConfigurationError, match=r"is not understood; use 'auto'.* names no tool"):
        tool_choice(choice)


def test_tools_that_are_offered():
    tools = offered_tools([ADD], "required", False)
    assert (tools.names, tools.choice, tools.parallel) == (["add"], "any", False)
    assert offered_tools([ADD]).parallel
    assert offered_tools([], 3) is offered_tools(None) is None


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}, {"type": "array"}),
    ],
)
def test_the_schema_in_a_response_format(response_format, schema):
    assert requested_schema(response_format) == schema


def test_another_response_format_is_refused():
    with pytest.raises(ConfigurationError, match="response_format, of type str, is not understood"):
        requested_schema("json")
