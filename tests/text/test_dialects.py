"""How each family writes reasoning and calls, and what is read from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stars_guard.prompts import Tools
from stars_guard.text import dialects
from stars_guard.text.dialects import (
    DIALECTS,
    HERMES,
    LLAMA3,
    MISTRAL,
    PLAIN,
    ChannelPart,
    Untyped,
    read_calls,
    readable_call,
    readable_json,
    split,
)
from stars_guard.types import Channel

ANSWER, REASONING, TOOL = Channel.ANSWER, Channel.REASONING, Channel.TOOL
CALL = '{"name": "add", "arguments": {"a": 1}}'
# No marks inside strings, and no half surrogate pairs, which no decoder gives.
TEXTS = st.text(st.characters(exclude_characters="<[", exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(TEXTS, values, max_size=4)


def shape(text, dialect, *, tools=True):
    return [(part.channel, part.text, part.closed) for part in split(text, dialect, tools=tools)]


def test_hermes_parts():
    text = f"<think>hm</think>\n\nLet me see.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL[:9]}"
    assert shape(text, HERMES) == [
        (ANSWER, "", True),
        (REASONING, "hm", True),
        (ANSWER, "\n\nLet me see.\n", True),
        (TOOL, f"\n{CALL}\n", True),
        (ANSWER, "\n", True),
        (TOOL, "\n" + CALL[:9], False),
    ]


TAGS = (
    "\n<function=paint>\n<parameter=colour>\ndark\nred\n</parameter>\n"
    "<parameter=n>\n2\n</parameter>\n</function>\n"
)


def test_hermes_reads_the_tags_of_newer_qwen_models_too():
    assert HERMES.read(TAGS, False) == [("paint", {"colour": "dark\nred", "n": "2"})]
    begun = TAGS[: TAGS.index("\nred")]
    assert HERMES.read(begun, True) == [("paint", {"colour": "dark"})]
    assert HERMES.read("<function=pai", True) == [("pai", {})]
    assert readable_call(HERMES, TAGS) == "I will use paint with colour: dark\nred, n: 2"
    with pytest.raises(ValueError, match="without </function>"):
        HERMES.read(begun, False)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("2", {"type": "integer"}, 2),
        ("2", {"type": "string"}, "2"),
        ("2", {}, "2"),
        ("[1]", {"type": "array"}, [1]),
        ("two", {"type": "integer"}, "two"),
    ],
)
def test_an_untyped_argument_is_what_its_schema_says(text, schema, value):
    typed = Untyped(text).typed(schema)
    assert (typed, type(typed)) == (value, type(value))


def test_without_tools_call_marks_are_mere_text():
    assert shape("<tool_call>x", HERMES, tools=False) == [(ANSWER, "<tool_call>x", False)]
    assert HERMES.marks(tools=False) == ("<think>", "</think>")
    assert PLAIN.marks(tools=False) == ()


def test_reasoning_that_the_prompt_opened():
    from dataclasses import replace

    prefilled = replace(HERMES, prefilled=True)
    assert shape("hm</think>yes", prefilled) == [(REASONING, "hm", True), (ANSWER, "yes", False)]


def test_llama_calls_are_bare_json_or_tagged():
    bare = '{"name": "add", "parameters": {"a": 1}}'
    assert shape(bare, LLAMA3) == [(TOOL, bare, False)]
    assert shape("Sure. <|python_tag|>" + bare, LLAMA3) == [(ANSWER, "Sure. ", True), (TOOL, bare, False)]
    assert shape(bare, LLAMA3, tools=False) == [(ANSWER, bare, False)]
    assert LLAMA3.read(f"{bare}; {bare}", False) == [("add", {"a": 1})] * 2
    tricky = '{"name": "add", "parameters": {"a": "x; \\" y"}}'
    assert LLAMA3.read(f"{tricky};{bare}", False) == [("add", {"a": 'x; " y'}), ("add", {"a": 1})]


def test_mistral_calls_come_as_a_list_or_one_by_one():
    assert shape(f"[TOOL_CALLS][{CALL}]", MISTRAL) == [(ANSWER, "", True), (TOOL, f"[{CALL}]", False)]
    assert MISTRAL.read(f"[{CALL}, {CALL}]", False) == [("add", {"a": 1})] * 2
    assert MISTRAL.read(CALL, False) == [("add", {"a": 1})]
    assert MISTRAL.read('add[CALL_ID]x[ARGS]{"a": 1}', False) == [("add", {"a": 1})]
    assert MISTRAL.read('add{"a": 1}', False) == [("add", {"a": 1})]
    assert MISTRAL.read("ad", True) == [("ad", {})]
    assert shape("[TOOL_CALLS]a{}[TOOL_CALLS]b{}", MISTRAL)[1:] == [(TOOL, "a{}", True), (TOOL, "b{}", False)]
    with pytest.raises(ValueError, match="without arguments"):
        MISTRAL.read("add", False)


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@given(arguments=arguments)
def test_every_dialect_reads_what_it_writes(dialect, arguments):
    in_tags = dialect.fields is not None and dialect.fields.text == ("", "")
    assume(not in_tags or all(key == key.strip() and ">" not in key for key in arguments))
    written = dialect.call("do_it", arguments)
    calls = [part for part in split(written, dialect, tools=True) if part.channel is TOOL]
    assert len(calls) == 1
    # Tags have no types: the schema gives them, for the values that it does not take for texts.
    properties = {key: {"type": _TYPES[type(value)]} for key, value in arguments.items()}
    function = {"name": "do_it", "parameters": {"type": "object", "properties": properties}}
    tools = Tools(({"type": "function", "function": function},))
    assert read_calls(dialect, calls[0].text, tools, partial=False) == [("do_it", arguments)]


_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
    dict: "object",
}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@given(arguments=arguments, cut=st.integers(0, 400))
def test_any_beginning_of_a_call_can_be_made_readable_call(dialect, arguments, cut):
    body = split(dialect.call("do_it", arguments), dialect, tools=True)[-2:]
    text = next(part for part in body if part.channel is TOOL).text
    assert isinstance(readable_call(dialect, text[:cut]), str)


@given(st.text(alphabet="ab<>/think_tool", max_size=60))
def test_parts_hold_all_the_text_but_the_marks(text):
    parts = split(text, HERMES, tools=True)
    assert sum(len(part.text) for part in parts) <= len(text)
    assert all(part.closed for part in parts[:-1])
    if len(parts) == 1:
        assert parts == [ChannelPart(ANSWER, text, closed=False)]


def test_a_call_reads_as_words_with_escapes_decoded():
    hidden = json.dumps({"body": "bomb ü", "to": ["a", {"b": 2}], "n": None})
    escaped = hidden.replace("bomb", "b\\u006fmb")
    assert "bomb" not in escaped
    text = '{"name": "mail", "arguments": ' + escaped
    expected = "I will use mail with body: bomb ü, to: a, to b: 2, n: null"
    assert readable_call(HERMES, text + "}") == expected
    assert readable_call(HERMES, text) == expected
    assert readable_call(HERMES, text[:20]) == "I will use mail"
    assert readable_call(HERMES, "{") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"b\\u006fmb": {"how": "l', "bomb: how: l"),
        ('"b\\u006fmb', "bomb"),
        ("no json", "no json"),
        ('{"a": "first", "a": ["x\\ny", 2, null', "a: first, a: x\ny, 2, null"),
        ('{"a": "end\\', "a: end"),
        ('{"a": "\\x", "b": 1}', 'a: "\\x", b: 1'),
    ],
)
def test_a_json_answer_reads_as_words_and_nothing_of_it_is_left_out(text, words):
    assert readable_json(text) == words


@given(values, st.booleans(), st.integers(0, 200))
def test_every_string_of_a_json_answer_is_read(value, ascii_only, cut):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert all(string in readable_json(text) or string != string.strip() for string in strings_in(value))
    assert isinstance(readable_json(text[:cut]), str)


def strings_in(value):
    if isinstance(value, dict):
        return [string for key, inner in value.items() for string in [key, *strings_in(inner)]]
    if isinstance(value, list):
        return [string for inner in value for string in strings_in(inner)]
    return [value] if isinstance(value, str) else []


def test_half_a_surrogate_pair_is_no_crash():
    assert HERMES.read('{"name": "a", "arguments": {"b": "\ud800"}}', False) == [("a", {"b": "?"})]


def test_what_cannot_be_read_is_shown_as_it_is():
    assert readable_call(HERMES, " not json ") == "not json"
    assert readable_call(HERMES, "[1, 2]") == "[1, 2]"
    assert readable_call(HERMES, '{"name": 5}') == "I will use 5"
    assert readable_call(HERMES, '{"arguments": {"a": 1}}') == "I will use a tool with a: 1"


@pytest.mark.parametrize("text", ["nonsense", "[1]", '{"name": "a"', ""])
def test_a_malformed_call_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        HERMES.read(text, False)


def test_channels():
    assert HERMES.channels(tools=True) == (REASONING, ANSWER, TOOL)
    assert PLAIN.channels(tools=False) == (ANSWER,)


def test_no_pattern_repeats_a_lookahead_possessively():
    """Up to Python 3.11.4 such a repetition reads past what the lookahead forbids (CPython issue 106052)."""
    forbidden = re.compile(r"\(\?:\(\?[!=][^()]*\)(?:[^()]|\([^()]*\))*\)[*+?]\+")
    sources = Path(dialects.__file__).parent.glob("*.py")
    assert not [path.name for path in sources if forbidden.search(path.read_text("utf-8"))]
