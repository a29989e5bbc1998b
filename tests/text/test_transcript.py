"""What of a candidate is judged, what of accepted text is shown, and which calls an answer makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.prompts import Tools
from stars_guard.text.dialects import HERMES, MISTRAL
from stars_guard.text.transcript import Called, Piece, Transcript, View
from stars_guard.types import Candidate, Channel, Finish, InvalidToolCall, ToolCall

ANSWER, REASONING, TOOL = Channel.ANSWER, Channel.REASONING, Channel.TOOL
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": NUMBERS}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def transcript(*, choice="auto", parallel=True, tools=True, dialect=HERMES, stops=()):
    offered = Tools((ADD,), choice=choice, parallel=parallel) if tools else None
    return Transcript(dialect, offered, stops, "abcdefg")


def views(answer, text, finish=None):
    return answer.views(Candidate((), text, finish))


def test_plain_text_is_one_view_of_the_answer():
    answer = transcript(tools=False)
    assert views(answer, "One ") == [View(ANSWER, "One ", finished=False)]
    answer.accept("One ")
    assert views(answer, "One two.", Finish.EOS) == [View(ANSWER, "One two.", finished=True)]


def test_a_candidate_is_judged_in_every_channel_it_adds_to():
    text = "<think>hm</think>\nSure." + CALL
    assert views(transcript(), text) == [
        View(REASONING, "hm", finished=True),
        View(ANSWER, "Sure.", finished=False),
        View(TOOL, "I will use add with a: 1", finished=True),
    ]


def test_what_was_judged_before_is_not_judged_again():
    answer = transcript()
    answer.accept("Sure.")
    assert views(answer, "Sure." + CALL) == [View(TOOL, "I will use add with a: 1", finished=True)]
    answer.accept("Sure." + CALL)
    second = CALL.replace("1", "2")
    assert views(answer, "Sure." + CALL + "\n" + second) == [
        View(TOOL, "I will use add with a: 2", finished=True)
    ]


def test_a_candidate_that_adds_nothing_is_judged_as_what_it_ends():
    assert views(transcript(), "", Finish.EOS) == [View(ANSWER, "", finished=True)]
    assert views(transcript(), "<tool_call>") == [View(TOOL, "", finished=False)]
    answer = transcript()
    answer.accept(CALL)
    assert views(answer, CALL, Finish.EOS) == [View(TOOL, "I will use add with a: 1", finished=True)]
    assert views(transcript(), "<think></think>", Finish.EOS) == [View(ANSWER, "", finished=True)]


def test_reasoning_comes_back_after_the_answer():
    text = "One.<think>a</think>Two.<think>b</think>"
    assert views(transcript(), text) == [
        View(ANSWER, "One.\n\nTwo.", finished=False),
        View(REASONING, "a\n\nb", finished=True),
    ]


def test_a_call_is_shown_whole_and_only_once_it_is_closed():
    answer = transcript()
    assert answer.accept("Sure." + CALL[:30]) == [Piece("Sure.")]
    assert answer.accept("Sure." + CALL) == [Called(ToolCall("abcdefg00", "add", {"a": 1}))]
    assert answer.flush(None) == []
    assert answer.text == "Sure."
    assert len(answer.calls) == 1


def test_reasoning_is_shown_apart():
    answer = transcript(tools=False)
    assert answer.accept("<think>\nhm") == [Piece("hm", REASONING)]
    assert answer.accept("<think>\nhm.</think>\n\nYes") == [Piece(".", REASONING), Piece("Yes")]
    assert (answer.reasoning, answer.text) == ("hm.", "Yes")


def test_half_a_mark_is_not_shown_until_it_is_known_to_be_none():
    answer = transcript()
    assert answer.accept("a <tool_c") == [Piece("a ")]
    assert answer.accept("a <tool_chest>") == [Piece("<tool_chest>")]
    assert answer.accept("a <tool_chest> <th") == [Piece(" ")]
    assert answer.flush(None) == [Piece("<th")]


@given(st.text(alphabet="ab <>/think", max_size=50), st.lists(st.integers(0, 50)))
def test_pieces_join_to_the_same_whole_for_any_cuts(text, cuts):
    whole, answer = transcript(), transcript()
    whole.accept(text)
    whole.flush(None)
    shown = [piece for cut in [*sorted(cuts), len(text)] for piece in answer.accept(text[:cut])]
    shown += answer.flush(None)
    for channel, joined in [(ANSWER, whole.text), (REASONING, whole.reasoning)]:
        pieces = [event.text for event in shown if isinstance(event, Piece) and event.channel is channel]
        assert "".join(pieces) == joined


@given(st.integers(0, len(CALL) - 1))
def test_no_part_of_a_call_is_shown_or_made_before_its_end(cut):
    answer = transcript()
    assert answer.accept(CALL[:cut]) == []
    shown = answer.flush("cut off")
    assert not any(isinstance(event, Called) and isinstance(event.call, ToolCall) for event in shown)


def call_of(answer, text, problem=None):
    (call,) = [
        event.call for event in [*answer.accept(text), *answer.flush(problem)] if isinstance(event, Called)
    ]
    return call


@pytest.mark.parametrize(
    ("body", "name", "error"),
    [
        ("{nonsense", None, "not a call"),
        ('{"name": "sub", "arguments": {}}', "sub", "there is no tool 'sub'"),
        ('{"arguments": {}}', None, "there is no tool None"),
        ('{"name": "add", "arguments": [1]}', "add", "must be a JSON object, got list"),
    ],
)
def test_a_call_that_cannot_be_made_is_reported_as_such(body, name, error):
    call = call_of(transcript(), f"<tool_call>{body}</tool_call>")
    assert isinstance(call, InvalidToolCall)
    assert (call.id, call.name) == ("abcdefg00", name)
    assert error in call.error


def test_arguments_in_tags_get_the_types_of_the_schema():
    text = (
        "<tool_call><function=add><parameter=a>1</parameter><parameter=b>1</parameter></function></tool_call>"
    )
    assert call_of(transcript(), text).arguments == {"a": 1, "b": "1"}


def test_an_invalid_call_shows_only_what_was_judged():
    hidden = (
        '<tool_call>{"name": "sub", "name": "sub", "arguments": {"a": 1}, "comment": "poison"}</tool_call>'
    )
    (view,) = views(transcript(), hidden)
    assert call_of(transcript(), hidden).text == view.text == "I will use sub with a: 1"
    unreadable = "<tool_call>{poison</tool_call>"
    (view,) = views(transcript(), unreadable)
    assert call_of(transcript(), unreadable).text == view.text == "{poison"


def test_the_end_of_a_finished_answer_ends_its_call():
    text = CALL.removesuffix("</tool_call>")
    assert call_of(transcript(), text) == ToolCall("abcdefg00", "add", {"a": 1})
    cut_off = call_of(transcript(), text, "the answer ended first (length)")
    assert isinstance(cut_off, InvalidToolCall)
    assert (cut_off.name, cut_off.error) == ("add", "the answer ended first (length)")
    unreadable = call_of(transcript(), "<tool_call>{{", "cut off")
    assert (unreadable.name, unreadable.error) == (None, "cut off")


def test_no_call_is_made_when_none_may_be():
    assert call_of(transcript(choice="none"), CALL).error == "the tool choice is none"


@pytest.mark.parametrize("dialect", [HERMES, MISTRAL])
def test_only_the_first_of_several_calls_is_made_when_one_may_be(dialect):
    call = dialect.call("add", {"a": 1})
    both = call + call if dialect is HERMES else f"{call[:-1]}, {call.removeprefix('[TOOL_CALLS][')}"
    answer = transcript(parallel=False, dialect=dialect)
    answer.accept(both)
    answer.flush(None)
    first, second = answer.calls
    assert isinstance(first, ToolCall)
    assert isinstance(second, InvalidToolCall)
    assert second.error == "only one call was allowed"
    assert {first.id, second.id} == {"abcdefg00", "abcdefg01"}


def test_stop_strings_are_held_back_too():
    answer = transcript(stops=("END",))
    assert answer.accept("one EN") == [Piece("one ")]
    assert answer.accept("one ENTER") == [Piece("ENTER")]


def test_a_json_answer_is_judged_by_what_it_says_and_shown_as_it_is():
    answer = Transcript(HERMES, None, (), "abcdefg", is_json=True)
    text = '{"say": "b\\u006fmb"'
    assert views(answer, text) == [View(ANSWER, "say: bomb", finished=False)]
    assert answer.accept(text) == [Piece(text)]
