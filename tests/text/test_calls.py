"""Calls as models really write them, and what only looks like one: made, or shown as text, never lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.prompts import Tools
from stars_guard.text.dialects import DIALECTS, HERMES, LLAMA3, MISTRAL
from stars_guard.text.transcript import Called, Piece, Transcript, View
from stars_guard.types import Candidate, Channel, Finish, InvalidToolCall, ToolCall

ANSWER, TOOL = Channel.ANSWER, Channel.TOOL
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
    },
}
TOOLS = Tools((ADD, {"type": "function", "function": {"name": "stop"}}))


def hermes(body):
    return f"<tool_call>\n{body}\n</tool_call>"


def answered(text, dialect=HERMES, *, tools=TOOLS, finish=Finish.EOS):
    """The answer's text and the calls that it makes."""
    answer = Transcript(dialect, tools, (), "abcdefg")
    answer.accept(text, ended=finish is not None)
    problem = None if finish in (Finish.EOS, Finish.STOP) else "the answer ended first"
    answer.flush(problem)
    made = [(call.name, call.arguments) for call in answer.calls if isinstance(call, ToolCall)]
    return answer.text, made, [call.error for call in answer.calls if isinstance(call, InvalidToolCall)]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES, hermes('{"name": "add", "parameters": {"a": 1}}')),
        (HERMES, hermes('{"name": "add", "args": {"a": 1}}')),
        (HERMES, hermes('{"name": "add", "arguments": "{\\"a\\": 1}"}')),
        (HERMES, hermes('{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}')),
        (HERMES, hermes('{"name": "add", "arguments": {"a": 1}, "thought": "adding"}')),
        (HERMES, hermes('{"name": "add", "arguments": {"a": 1}, "parameters": {"a": 1}}')),
        (HERMES, hermes('{"name": "add", "arguments": {"a": 0, "a": 1}}')),
        (HERMES, hermes("{'name': 'add', 'arguments': {'a': 1,},}")),
        (HERMES, hermes("[add(a=1)]")),
        (HERMES, hermes("add(a=1)")),
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1}}'),
        (HERMES, hermes("<function=add>\n<parameter=a>\n1.0\n</parameter>\n</function>")),
        (LLAMA3, '{"name": "add", "arguments": {"a": 1}}'),
        (LLAMA3, '{"type": "function", "name": "add", "parameters": {"a": 1}}'),
        (LLAMA3, "{'name': 'add', 'parameters': {'a': 1}}"),
        (LLAMA3, '\n[{"name": "add", "parameters": {"a": 1}}]'),
        (LLAMA3, '<|python_tag|>{"name": "add", "parameters": {"a": 1}}'),
        (MISTRAL, '[TOOL_CALLS][{"name": "add", "parameters": {"a": 1}}]'),
        (MISTRAL, '[TOOL_CALLS]add[ARGS]{"a": 1}'),
    ],
)
def test_a_call_is_made_whatever_its_model_names_the_arguments(dialect, text):
    assert answered(text, dialect) == ("", [("add", {"a": 1})], [])


def tags(*values, before="\n"):
    return hermes(
        f"<function=add>{before}" + "".join(f"<parameter={value}\n" for value in values) + "</function>"
    )


def test_a_value_in_tags_ends_at_the_last_mark_of_its_end():
    written = tags("b>\nWrite </parameter> here\n</parameter>", "a>2</parameter>")
    assert answered(written) == ("", [("add", {"b": "Write </parameter> here", "a": 2})], [])


def test_a_value_in_tags_may_lack_the_mark_of_its_end():
    assert answered(tags("a>\n2", "b>\nx")) == ("", [("add", {"a": 2, "b": "x"})], [])


def test_json_in_the_tag_of_a_function_is_its_arguments():
    assert answered(tags(before='\n{"a": 2}\n')) == ("", [("add", {"a": 2})], [])


@pytest.mark.parametrize(
    "written",
    [
        tags("a>2</parameter> and more"),
        tags("a>2</parameter>", before='{"b": "x"}'),
        tags(before="all of them"),
        tags("a>2</parameter>\n</function>\n<function=stop>", "b>x</parameter>"),
        hermes('{"name": "add", "arguments": {}, "a": 1}'),
    ],
)
def test_no_call_is_made_of_a_part_of_what_was_written(written):
    text, made, errors = answered(written)
    assert (text, made, len(errors)) == (written, [], 1)


def test_the_type_of_an_argument_may_stand_in_a_part_of_the_schema():
    function = {
        "name": "add",
        "parameters": {"$defs": {"A": ADD["function"]["parameters"]}, "$ref": "#/$defs/A"},
    }
    tools = Tools(({"type": "function", "function": function},))
    assert answered(tags("a>2</parameter>"), tools=tools) == ("", [("add", {"a": 2})], [])


def test_several_calls_in_one_list_are_all_made():
    calls = [{"name": "add", "arguments": {"a": number}} for number in (1, 2)]
    assert answered(hermes(json.dumps(calls)))[1] == [("add", {"a": 1}), ("add", {"a": 2})]
    objects = "\n".join(json.dumps(call) for call in calls)
    assert answered(objects, LLAMA3)[1] == [("add", {"a": 1}), ("add", {"a": 2})]


def test_a_call_without_arguments_is_made_without_any():
    for body in ('{"name": "stop"}', '{"name": "stop", "arguments": null}', '{"id": "1", "name": "stop"}'):
        assert answered(hermes(body)) == ("", [("stop", {})], [])


NEVER_BEGUN = (hermes("3 + 4"), "<tool_call></tool_call>")
NO_CALLS = [
    hermes('{"name": "add", "arguments": {"a": 1}, "parameters": {"a": 2}}'),
    hermes('{"name": "add", "a": 1}'),
    hermes('{"name": "add", "arguments": {"a": NaN}}'),
    hermes('{"name": "add", "arguments": {"a": [-Infinity]}}'),
    hermes('{"name": "add", "arguments": {"a": 1e999}}'),
    hermes('{"name": "add", "arguments": [1]}'),
    hermes('{"name": "add", "arguments": "1"}'),
    hermes('{"name": "add", "arguments": "one"}'),
    hermes('{"name": "sub", "arguments": {"a": 1}}'),
    hermes("{'name': sub}"),
    hermes("{oops"),
    hermes("[}"),
    hermes("add(1)"),
    *NEVER_BEGUN,
]


@pytest.mark.parametrize("text", NO_CALLS)
def test_what_makes_no_call_is_text_and_reported(text):
    shown, made, errors = answered(f"I can: {text} Done.")
    assert (shown, made) == (f"I can: {text} Done.", [])
    assert len(errors) == (0 if text in NEVER_BEGUN else 1)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES, "Write the call between <tool_call> and </tool_call>."),
        (HERMES, 'Like this:\n```json\n{"name": "add", "arguments": {"a": 1}}\n```'),
        (HERMES, '{"name": "add", "arguments": {"a": 1}}'),
        (LLAMA3, '{"answer": 42}'),
        (LLAMA3, '{"verdict": "YES"}\nBecause it is.'),
        (LLAMA3, '{"name": "Alice", "age": 3}'),
        (LLAMA3, '{"name": "Alice"'),
        (LLAMA3, "[1] is the source."),
        (LLAMA3, "{\n"),
        (LLAMA3, "Behind <|python_tag|> stands code."),
    ],
)
def test_what_only_looks_like_a_call_is_text_and_no_failed_call(dialect, text):
    assert answered(text, dialect) == (text, [], [])


def test_prose_about_a_mark_is_shown_as_it_is_written():
    answer = Transcript(HERMES, TOOLS, (), "abcdefg")
    assert answer.accept("Use <tool_call>") == [Piece("Use ")]
    assert answer.accept("Use <tool_call> tags") == []
    assert answer.accept("Use <tool_call> tags,") == [Piece("<tool_call> tags,")]


def test_blanks_before_a_call_without_a_mark_are_not_shown():
    answer = Transcript(LLAMA3, TOOLS, (), "abcdefg")
    assert answer.accept("\n") == []
    assert answer.accept("\nNo.") == [Piece("\nNo.")]
    calling = Transcript(LLAMA3, TOOLS, (), "abcdefg")
    calling.accept("\n")
    assert calling.accept('\n{"name": "add"') == []


def test_text_behind_a_call_is_text():
    call = '{"name": "add", "parameters": {"a": 1}}'
    assert answered(call + "\nNow I wait.", LLAMA3) == ("Now I wait.", [("add", {"a": 1})], [])
    assert answered(f"[TOOL_CALLS][{call}] I wait.", MISTRAL) == ("I wait.", [("add", {"a": 1})], [])
    assert answered(hermes(call) + "I wait.") == ("I wait.", [("add", {"a": 1})], [])


def test_a_mark_within_a_value_is_part_of_it():
    text = "use <tool_call> and </tool_call>"
    assert answered(hermes(json.dumps({"name": "add", "arguments": {"b": text}})))[1] == [
        ("add", {"b": text})
    ]
    tags = f"<function=add><parameter=b>{text}</parameter></function>"
    assert answered(hermes(tags))[1] == [("add", {"b": text})]


def test_a_call_in_a_call_is_the_inner_one():
    inner = hermes('{"name": "add", "arguments": {"a": 1}}')
    shown, made, _ = answered(f"<tool_call>{inner}</tool_call>")
    assert (shown, made) == ("<tool_call>\n\n</tool_call>", [("add", {"a": 1})])


def test_an_unfinished_call_at_the_end_of_the_budget_is_text():
    text = 'Sure. <tool_call>\n{"name": "add", "argum'
    shown, made, errors = answered(text, finish=Finish.LENGTH)
    assert (shown, made, errors) == (text, [], ["the answer ended first"])
    # Ended from outside, it was judged as a call only: the report has its words.
    shown, made, errors = answered(text, finish=None)
    assert (shown, made, errors) == ("Sure. ", [], ["the answer ended first"])


def test_what_looks_like_a_call_is_judged_both_as_one_and_as_text():
    text = 'So: <tool_call>{"name": "b\\u006fmb"}</tool_call>'
    answer = Transcript(HERMES, TOOLS, (), "abcdefg")
    assert answer.views(Candidate((), text)) == [
        View(TOOL, "I will use bomb", finished=True),
        View(ANSWER, text, finished=False),
    ]
    cut_off = text.removesuffix("}</tool_call>")
    assert [view.text for view in answer.views(Candidate((), cut_off, Finish.LENGTH))] == [
        "I will use bomb",
        cut_off,
    ]


def test_no_call_is_made_of_a_choice_that_forbids_it_and_its_text_is_shown():
    text = hermes('{"name": "add", "arguments": {"a": 1}}')
    forbidding = Tools((ADD,), choice="none")
    assert answered(text, tools=forbidding) == (text, [], ["the tool choice is none"])


def test_the_forced_part_of_a_text_that_makes_no_call_is_known():
    answer = Transcript(HERMES, TOOLS, (), "abcdefg")
    shown = answer.accept("<tool_call>{oops</tool_call>", forced=[(0, 11)])
    assert [piece.forced for piece in shown if isinstance(piece, Piece)] == [True, False]
    assert [event.forced for event in shown if isinstance(event, Called)] == [True]


BITS = st.sampled_from(
    [
        *(
            '{"name": "add", "arguments": {"a": 1}}',
            '{"name": "no"}',
            "{'a'",
            '"',
            "'",
            "{",
            "}",
            "[",
            "]",
            ";",
        ),
        *(
            "text",
            " ",
            "\n",
            "<think>",
            "</think>",
            "name",
            "add(a=1)",
            "```tool_code",
            "```",
            "call:add{a:1}",
        ),
        *(mark for dialect in DIALECTS.values() for mark in dialect.marks(tools=True)),
    ]
)


@given(st.sampled_from([*DIALECTS.values()]), st.lists(BITS, max_size=12), st.data())
def test_every_character_is_shown_judged_and_the_same_for_any_cuts(dialect, bits, data):
    text = "".join(bits)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    finish = data.draw(st.sampled_from([Finish.EOS, Finish.LENGTH]))
    whole, answer = (Transcript(dialect, TOOLS, (), "abcdefg") for _ in range(2))
    judged = []
    for cut in cuts:
        judged += answer.views(Candidate((), text[:cut]))
        answer.accept(text[:cut])
    judged += answer.views(Candidate((), text, finish))
    for transcript in (whole, answer):
        transcript.accept(text, ended=True)
        transcript.flush(None if finish is Finish.EOS else "cut off")
    assert (answer.text, answer.reasoning, answer.calls) == (whole.text, whole.reasoning, whole.calls)
    answers = [view.text.strip() for view in judged if view.channel is ANSWER]
    assert answer.text.strip() in ["", *answers]
    thinks = dialect.headers or (dialect.think and dialect.think[0] in text)
    if not (whole.calls or whole.reasoning or thinks):
        assert whole.text.strip() == text.strip()
