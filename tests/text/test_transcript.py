"""What of a candidate is judged, what of accepted text is shown, and which calls an answer makes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.prompts import Tools
from stars_guard.text.dialects import DIALECTS, HERMES, LLAMA3, MISTRAL
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
    as_call, as_text = views(transcript(), hidden)
    assert call_of(transcript(), hidden).text == as_call.text == "I will use sub with a: 1"
    assert as_text == View(ANSWER, hidden, finished=False)
    unreadable = "<tool_call>{poison</tool_call>"
    as_call, as_text = views(transcript(), unreadable)
    assert call_of(transcript(), unreadable).text == as_call.text == "{poison"
    assert as_text.text == unreadable


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


# --- every string that a client can read in a call stands in what was judged ---

ANYTHING = {"type": "object", "properties": {"o": {"type": "object"}, "n": {"type": ["number", "null"]}}}
ADD_ANYTHING = {"type": "function", "function": {"name": "add", "parameters": ANYTHING}}
LETTERS = st.text(st.sampled_from('ab \n"\\/;:,{}[]<>=\u00fc\t'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(LETTERS | st.sampled_from("on"), VALUES, max_size=4)


def escaped(text):
    """The same JSON, every letter of its strings as an escape."""
    return text.replace("a", "\\u0061").replace("\u00fc", "\\u00fc")


@st.composite
def written_calls(draw):
    """A dialect and what a model may write in it: calls by JSON and by tags, whole and damaged."""
    dialect = draw(st.sampled_from([*DIALECTS.values()]))
    arguments = draw(ARGUMENTS)
    text = draw(st.sampled_from([str, escaped]))(dialect.call("add", arguments))
    if draw(st.booleans()):
        values = [f"<parameter={key}>\n{json.dumps(value)}\n" for key, value in arguments.items()]
        ends = draw(st.lists(st.sampled_from(["</parameter>\n", ""]), min_size=len(values)))
        tags = "".join(value + end for value, end in zip(values, ends, strict=False))
        text = f"<tool_call><function=add>{tags}</function></tool_call>"
    second = draw(st.sampled_from(["", ";", ",", "\n"]))
    text += second + dialect.call(draw(LETTERS), draw(ARGUMENTS)).removeprefix(dialect.call_open)
    place = draw(st.integers(0, len(text)))
    return dialect, text[:place] + draw(st.sampled_from(["", "", "{", '"', "x", "}"])) + text[place:]


def strings_of(value):
    if isinstance(value, dict):
        return [string for key, inner in value.items() for string in [key, *strings_of(inner)]]
    if isinstance(value, list):
        return [string for inner in value for string in strings_of(inner)]
    return [value if isinstance(value, str) else json.dumps(value)]


def read_by_the_client(call):
    if isinstance(call, ToolCall):
        return [call.name, *strings_of(call.arguments)]
    return [call.name or "", call.text]


@given(written_calls(), st.lists(st.integers(0, 200), max_size=3), st.sampled_from([None, "cut off"]))
def test_every_string_of_an_emitted_call_was_judged(written, cuts, problem):
    dialect, text = written
    answer = Transcript(dialect, Tools((ADD_ANYTHING,)), (), "abcdefg")
    judged = []
    for cut in sorted(cuts):
        judged += views(answer, text[:cut])
        answer.accept(text[:cut])
    judged += views(answer, text, None if problem else Finish.EOS)
    answer.accept(text)
    answer.flush(problem)
    spoken = [view.text for view in judged if view.channel is TOOL] or [""]
    for call in answer.calls:
        assert any(all(string in text for string in read_by_the_client(call)) for text in spoken)


def judged_and_made(dialect, text, *, problem=None):
    answer = Transcript(dialect, Tools((ADD_ANYTHING,)), (), "abcdefg")
    (view,) = [view for view in views(answer, text, Finish.EOS) if view.channel is TOOL]
    answer.accept(text)
    answer.flush(problem)
    return view.text, answer.calls


@pytest.mark.parametrize("value", ["{}", "[]", "[[], {}]", '{"x": {}}', '[{"x": []}]'])
def test_the_name_of_an_empty_argument_is_judged(value):
    text = f'<tool_call>{{"name": "add", "arguments": {{"poison": {value}}}}}</tool_call>'
    spoken, (call,) = judged_and_made(HERMES, text)
    assert call.arguments == {"poison": json.loads(value)}
    assert spoken.startswith("I will use add with poison")
    assert ("x" in spoken) is ("x" in value)


@pytest.mark.parametrize("space", ["", " ", "\n"])
def test_blanks_at_the_ends_of_strings_are_judged_too(space):
    text = HERMES.call("add", {f"{space}a{space}": f"b{space}"})
    assert judged_and_made(HERMES, text)[0] == f"I will use add with {space}a{space}: b{space}"


def test_escapes_in_tags_are_read_by_the_judge_where_the_client_gets_them_read():
    tags = '<function=add><parameter=o>{"k": "b\\u006fmb"}</parameter></function>'
    spoken, (call,) = judged_and_made(HERMES, f"<tool_call>{tags}</tool_call>")
    assert call.arguments == {"o": {"k": "bomb"}}
    assert spoken == "I will use add with o k: bomb"
    unfinished = tags[: tags.index('"}')]
    assert judged_and_made(HERMES, f"<tool_call>{unfinished}")[0] == spoken


def test_a_value_in_tags_that_is_no_json_is_judged_as_the_text_it_stays():
    for value in ('{"k": "ok", "poison', '{"k": "ok"} poison'):
        for end in ("</parameter></function>", "</function>"):
            text = f"<tool_call><function=add><parameter=o>{value}{end}</tool_call>"
            spoken, (call,) = judged_and_made(HERMES, text)
            assert call.arguments["o"].startswith(value)
            assert call.arguments["o"] in spoken


def test_every_call_behind_a_semicolon_is_judged():
    first, second = LLAMA3.call("add", {"a": 1}), LLAMA3.call("add", {"b;": "poison"})
    text = f"{first};{second.removeprefix(LLAMA3.call_open)}"
    spoken, calls = judged_and_made(LLAMA3, text)
    assert spoken == "I will use add with a: 1\nI will use add with b;: poison"
    assert [call.arguments for call in calls] == [{"a": 1}, {"b;": "poison"}]
    assert judged_and_made(LLAMA3, text[:-5])[0] == spoken[:-2]


def test_a_malformed_call_is_judged_and_reported_with_its_escapes_decoded():
    spoken, (call,) = judged_and_made(HERMES, '<tool_call>{"b\\u006fmb" "\\q"}</tool_call>')
    assert spoken == call.text == '{bomb "\\q"}'


def test_a_name_that_is_no_text_is_judged_like_an_argument():
    spoken, (call,) = judged_and_made(HERMES, '<tool_call>{"name": {"a\\nb": {}}}</tool_call>')
    assert spoken == call.text == "I will use a\nb"
    assert (call.name, call.error) == (None, "there is no tool None")


def test_the_error_names_an_unknown_tool_as_it_was_judged():
    spoken, (call,) = judged_and_made(HERMES, '<tool_call>{"name": "a\\nb"}</tool_call>')
    assert (spoken, call.error) == ("I will use a\nb", "there is no tool 'a\nb'")


def test_a_schema_that_is_no_object_leaves_the_text_as_it_is():
    schema = {"type": "object", "properties": {"a": True}}
    tools = Tools(({"type": "function", "function": {"name": "add", "parameters": schema}},))
    text = "<tool_call><function=add><parameter=a>[1]</parameter></function></tool_call>"
    assert call_of(Transcript(HERMES, tools, (), "abcdefg"), text).arguments == {"a": "[1]"}
