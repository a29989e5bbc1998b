"""Stop strings end an answer by what it says to the user, special tokens that it leaves out included."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard import Prompt, SamplingParams, Tools
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.text.answer_stops import AnswerStops
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.decoding import AnswerDecoder, Opaque
from stars_guard.text.dialects import HERMES, LLAMA3, MISTRAL, PLAIN, split
from stars_guard.text.transcript import Transcript
from stars_guard.types import Channel, Finish
from tests.support.guards import guarded, hard

PREFILLED = replace(HERMES, prefilled=True)
CALL = '<tool_call>\n{"name": "f", "arguments": {"x": "y"}}\n</tool_call>'
TOOLS = Tools(({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},))


def stopped(text, stops, dialect=HERMES, *, tools=False, ended=False):
    return AnswerStops(stops, dialect, tools=tools).read(text, ended=ended).stopped


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("<think>a\n\nb</think>c", ["\n\n"], None),
        ("<think>a\n\nb</think>\n\nc", ["\n\n"], None),  # blanks that only set the answer apart
        ("<think>a\n\nb</think>c\n\nd", ["\n\n"], "<think>a\n\nb</think>c"),
        ("a\n\n<think>b</think>c", ["\n\n"], "a"),
        ("<think>END", ["END"], None),
        ("<think>EN</think>D", ["END"], None),
        ("a</think>b", ["think"], "a</"),  # no mark where nothing was opened
        ("a<think>b", ["<think>", "think", "<"], None),
        ("a < b", ["<"], "a "),
        ("\nc", ["\n"], ""),
    ],
)
def test_reasoning_and_marks_are_not_searched(text, stops, expected):
    assert stopped(text, stops) == expected
    assert stopped(text, stops, ended=True) == expected


def test_reasoning_that_the_prompt_opened_is_not_searched():
    assert stopped("a\n\nb", ["\n\n"], PREFILLED) is None
    assert stopped("a\n\nb</think>\n\nc\n\nd", ["\n\n"], PREFILLED) == "a\n\nb</think>\n\nc"


@pytest.mark.parametrize("stop", ["\n", "name", "</tool_call>", "}"])
def test_calls_are_not_searched(stop):
    assert stopped(CALL, [stop], tools=True) is None
    assert stopped(CALL, [stop]) == CALL.partition(stop)[0]
    assert stopped(f"{CALL}a{stop}", [stop], tools=True, ended=True) == f"{CALL}a"


def test_a_call_without_a_mark_is_not_searched():
    assert stopped('{"name": "f"}', ["name"], LLAMA3, tools=True) is None
    assert stopped('{"name": "f"}', ["name"], LLAMA3) == '{"'
    assert stopped("\n", ["\n"], LLAMA3, tools=True) is None  # a call may begin with blanks
    assert stopped("\na", ["\n"], LLAMA3, tools=True) == ""
    assert stopped('[TOOL_CALLS]f{"a": 1}', ["a"], MISTRAL, tools=True) is None


def test_what_may_become_a_mark_is_no_stop_string_yet():
    stops = AnswerStops(["<t"], HERMES)
    assert stops.read("a <t").stopped is None
    assert stops.settled == "a "
    assert stops.read("a <thi").stopped is None
    assert stops.read("a <thi", ended=True).stopped == "a "
    assert stops.read("a <thinner").stopped == "a "
    assert stops.read("a <think>").stopped is None
    assert stops.fork().read("a <thinner").stopped == "a "


texts = st.lists(
    st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", *"ab \n<"]), max_size=9
)
stop_strings = st.lists(st.text("ab<\n", min_size=1, max_size=3), max_size=3)


@given(texts, stop_strings, st.booleans(), st.lists(st.integers(0, 40), max_size=5))
def test_an_answer_stops_where_its_own_text_holds_a_stop_string(pieces, stops, tools, cuts):
    text = "".join(pieces)
    search = AnswerStops(stops, HERMES, tools=tools)
    for cut in sorted(cuts):
        before = search.read(text[:cut]).stopped
        # Once stopped, for ever stopped: what is looked for at the end was not there before.
        later = AnswerStops(stops, HERMES, tools=tools).read(text, ended=True).stopped
        assert before is None or later is not None
    expected = None
    for number, part in enumerate(split(text, HERMES, tools=tools)):
        words = part.text.lstrip() if number else part.text
        places = [words.find(stop) for stop in stops if stop in words]
        if part.channel is Channel.ANSWER and places and expected is None:
            expected = text[: part.start + len(part.text) - len(words) + min(places)]
    assert search.read(text, ended=True).stopped == expected


def test_reasoning_and_calls_come_whole_through_the_guard():
    def answered(text, stop, tools=None):
        model = ScriptedModel([[text]])
        result = guarded(model, KeywordReward(()), hard()).generate(
            Prompt.of("Hi", tools), sampling=SamplingParams(stop=(stop,))
        )
        return result.text, result.reasoning, [call.arguments for call in result.tool_calls]

    assert answered("<think>One.\n\nTwo.</think>Four.\n\nFive.", "\n\n") == ("Four.", "One.\n\nTwo.", [])
    assert answered(f"Well.{CALL}", "\n", TOOLS) == ("Well.", "", [{"x": "y"}])


NAMES = {90: "<|eot|>", 91: "<|sot|>", 92: "<|x|>"}


def told(stops, dialect=PLAIN):
    """An answer whose ids are letters, but for special tokens that its text leaves out."""
    return AnswerText(AnswerDecoder(Opaque(lambda ids: "".join(map(chr, ids))), NAMES), stops, dialect)


def ids_of(text):
    """The ids of a text in which special tokens stand as they are spelled."""
    for token, name in NAMES.items():
        text = text.replace(name, chr(token))
    return [ord(letter) for letter in text]


def bare(text):
    for name in NAMES.values():
        text = text.replace(name, "")
    return text


SPELLED = [
    ("ab<|eot|>cd", ["<|eot|>"], "ab"),
    ("<|eot|>cd", ["<|eot|>"], ""),
    ("ab<|sot|>cd<|eot|>ef", ["<|eot|>"], "abcd"),
    ("ab<|eot|>cd", ["<|eot|>cd"], "ab"),
    ("ab<|eot|>cx<|eot|>cd", ["<|eot|>cd"], "abcx"),
    ("ab<|eot|>cd", ["b<|eot|>c"], "a"),
    ("ab<|eot|><|sot|>cd", ["<|eot|><|sot|>"], "ab"),
    ("ab<|eot|><|sot|>cd", ["b<|eot|>c"], "a"),  # no stop string names what stands between
    ("ab<|x|><|eot|>cd", ["<|eot|>"], "ab"),
    ("ab<|eot|>cd", ["eot"], "abcd"),  # half a token that nobody sees is no stop string
    ("ab<|eot|>cd", ["bc"], "a"),
    ("ab<|eot|>cd", ["bc", "<|eot|>"], "ab"),
    ("ab<|eot|>cd", ["<|sot|>"], "abcd"),
]


@pytest.mark.parametrize(("spelled", "stops", "expected"), SPELLED)
@pytest.mark.parametrize("length", [1, 2, 3, 32])
@pytest.mark.parametrize("finish", [Finish.EOS, Finish.LENGTH])
def test_a_stop_string_may_name_special_tokens(spelled, stops, expected, length, finish):
    answer, transcript, ids = told(stops), Transcript(PLAIN, None, stops, "a234567"), ids_of(spelled)
    pieces = []
    for start in range(0, len(ids), length):
        segment = ids[start : start + length]
        drawn = [n for n in range(1, len(segment) + 1) if stops_at(answer, segment[:n])]
        segment = segment[: drawn[0]] if drawn else segment
        ending = Finish.STOP if drawn else finish if start + length >= len(ids) else None
        text, ending = answer.drawn(segment, ending)
        answer.accept(segment, text)
        pieces += transcript.accept(text)
        if ending is Finish.STOP:
            break
    pieces += transcript.flush(None)
    assert text == "".join(piece.text for piece in pieces) == expected
    assert (ending is Finish.STOP) == (expected != bare(spelled))


def stops_at(answer, ids):
    fork = answer.fork()
    return fork.stopped(ids, fork.complete(ids)) is not None


def test_a_special_token_in_reasoning_ends_no_answer():
    answer = told(["<|eot|>"], HERMES)
    assert answer.drawn(ids_of("<think>a<|eot|>b</think>c"), Finish.EOS) == ("<think>ab</think>c", Finish.EOS)
    assert answer.drawn(ids_of("<think>a</think>b<|eot|>c"), Finish.EOS) == ("<think>a</think>b", Finish.STOP)
