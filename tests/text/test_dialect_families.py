"""What each family writes, as its makers document it, and how a family is known by its template."""

from __future__ import annotations

import pytest

from stars_guard.text.dialects import (
    DEEPSEEK,
    DEEPSEEK_V31,
    DIALECTS,
    FUNCTION_GEMMA,
    GEMMA,
    GRANITE,
    HARMONY,
    PHI4,
    QWEN_CODER,
    dialect_of,
    readable_call,
    split,
    unknown_marks,
)
from stars_guard.types import Channel

ANSWER, REASONING, TOOL = Channel.ANSWER, Channel.REASONING, Channel.TOOL
CALL = [("get_weather", {"location": "Paris"})]
V3 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"  # noqa: RUF001
    '```json\n{"location": "Paris"}\n```<｜tool▁call▁end｜>'  # noqa: RUF001
)
V31 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"  # noqa: RUF001
    '{"location": "Paris"}<｜tool▁call▁end｜>'  # noqa: RUF001
)
END = "<｜tool▁calls▁end｜>"  # noqa: RUF001
TO_WEATHER = (
    '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"location": "Paris"}'
)
BY_ROLE = (
    '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"location": "Paris"}'
)


def parts(text, dialect, *, tools=True):
    return [(part.channel, part.text) for part in split(text, dialect, tools=tools) if part.text.strip()]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (DEEPSEEK, V3 + END),
        (DEEPSEEK, V31 + END),
        (DEEPSEEK_V31, V31 + END),
        (HARMONY, TO_WEATHER + "<|call|>"),
        (HARMONY, TO_WEATHER),
        (HARMONY, BY_ROLE + "<|call|>"),
        (GRANITE, '<|tool_call|>[{"name": "get_weather", "arguments": {"location": "Paris"}}]'),
        (PHI4, '<|tool_call|>[{"name": "get_weather", "arguments": {"location": "Paris"}}]<|/tool_call|>'),
        (GEMMA, '```tool_code\nget_weather(location="Paris")\n```'),
        (GEMMA, "```tool_code\nprint(get_weather(location='Paris'))\n```"),
        (GEMMA, '```tool_code\n[get_weather(location="Paris")]\n```'),
        (GEMMA, '```tool_code\n{"name": "get_weather", "parameters": {"location": "Paris"}}\n```'),
        (
            FUNCTION_GEMMA,
            "<start_function_call>call:get_weather{location:<escape>Paris<escape>}<end_function_call>",
        ),
    ],
)
def test_one_call(dialect, text):
    ((channel, body),) = parts(text, dialect)
    assert channel is TOOL
    assert dialect.read(body, False) == CALL
    assert readable_call(dialect, body) == "I will use get_weather with location: Paris"
    for cut in range(len(body)):
        assert isinstance(readable_call(dialect, body[:cut]), str)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (DEEPSEEK, V3 + "\n" + V3.partition("begin｜>")[2] + END),  # noqa: RUF001
        (GEMMA, "```tool_code\nget_weather(location='Paris')\nget_weather(location='Paris')\n```"),
    ],
)
def test_two_calls(dialect, body):
    ((_, text),) = parts(body, dialect)
    assert dialect.read(text, False) == CALL * 2


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (DEEPSEEK, "text"),
        (DEEPSEEK_V31, V31.partition("begin｜>")[2].partition("{")[0]),  # noqa: RUF001
        (HARMONY, "get_weather<|message|>"),
        (GEMMA, "import os"),
        (FUNCTION_GEMMA, "{location:1}"),
    ],
)
def test_no_call(dialect, body):
    with pytest.raises(ValueError, match=r"."):
        dialect.read(body, False)


def test_the_channels_of_harmony():
    text = (
        "<|channel|>analysis<|message|>They want the weather.<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>I look it up.<|end|>"
        f"<|start|>assistant{TO_WEATHER}<|call|>"
        "<|start|>assistant<|channel|>final<|message|>Sunny.<|return|>"
    )
    body = TO_WEATHER.partition("functions.")[2]
    assert parts(text, HARMONY) == [
        (REASONING, "They want the weather."),
        (ANSWER, "I look it up."),
        (TOOL, body),
        (ANSWER, "Sunny."),
    ]
    assert (ANSWER, '{"location": "Paris"}') in parts(text, HARMONY, tools=False)
    assert parts("Plain.", HARMONY) == [(ANSWER, "Plain.")]
    assert HARMONY.marks(tools=True) == HARMONY.marks(tools=False) == HARMONY.inside


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<|channel|>fin", []),
        ("<|channel|>final<|mess", []),
        ("<|start|>assistant", []),
        ("<|channel|>final\nHello", [(ANSWER, "final\nHello")]),
        ("<|channel|>analysis to=python code<|message|>1 + 1", [(REASONING, "1 + 1")]),
    ],
)
def test_a_header_is_no_text(text, shown):
    assert parts(text, HARMONY) == shown


@pytest.mark.parametrize(
    ("template", "tokens", "name"),
    [
        ("<|start|>assistant<|channel|>final<|message|>", (), "harmony"),
        ("", ("<|channel|>", "<|message|>", "<|constrain|>"), "harmony"),
        (V3, (), "deepseek"),
        (V31, (), "deepseek_v31"),
        ("<start_of_turn>model", (), "gemma"),
        ("<start_of_turn>model<start_function_call>", (), "function_gemma"),
        ("<|tool_call|>", (), "granite"),
        ("<|tool_call|> <|/tool_call|>", (), "phi4"),
        ("<tool_call>", ("<|tool_call|>", "<|start_header_id|>", "<think>"), "hermes"),
        ("<tool_call>\n<function=x>", ("<think>",), "qwen_coder"),
        ("<|start_header_id|>", (), "llama3"),
        ("<|im_start|>", ("<tool_call>",), "plain"),
    ],
)
def test_the_dialect_of_a_template(template, tokens, name):
    dialect = dialect_of(template, tokens)
    assert dialect.name == name
    assert unknown_marks(template, dialect) == []


def test_reasoning_is_what_the_model_has_marks_for():
    assert dialect_of("<|start_header_id|>", ("<think>", "</think>")).think == ("<think>", "</think>")
    assert dialect_of("<|start_header_id|>", ()).think is None
    assert dialect_of("[TOOL_CALLS]", ("[THINK]",)).think == ("[THINK]", "[/THINK]")


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        ("<|START_THINKING|> <|START_ACTION|> <|USER_TOKEN|>", ["<|START_ACTION|>", "<|START_THINKING|>"]),
        ("<tool_call><tool_response></tool_response><tools></tools> <b>", []),
        ("<minimax:tool_call> ◁think▷ <think>", ["<minimax:tool_call>", "◁think▷"]),
        ("[TOOL_CALLS][AVAILABLE_TOOLS][TOOL_RESULTS]", []),
    ],
)
def test_marks_that_no_dialect_knows(template, marks):
    assert unknown_marks(template, dialect_of(template, ())) == marks


def test_a_record_and_its_name():
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
    assert DIALECTS["qwen_coder"] is QWEN_CODER
